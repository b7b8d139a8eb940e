"""`fedgate evaluate`."""

import json

import click


@click.command(short_help="Accuracy by density and by client, and MACs, of a run.")
@click.argument("run", type=click.Path())
@click.option(
    "--finetune-epochs",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Judge every client before and after N local epochs on its own examples.  [0]",
)
@click.option(
    "--finetune-lr", type=click.FloatRange(1e-12, 1e3), help="Their learning rate.  [a tenth of the run's --lr]"
)
@click.option(
    "--cascade",
    metavar="RUN[,RUN]|levels",
    help="Judge a cascade: these smaller runs answer where they are sure, else RUN does; or levels, those of RUN.",
)
@click.option(
    "--score",
    default="probability",
    show_default=True,
    help="How sure a stage is: probability, the largest, or margin.",
)
@click.option(
    "--losses", default="0,0.5,1", show_default=True, metavar="POINTS", help="Accuracy that a cascade may lose."
)
@click.option("--data", metavar="NAME", help="Where the run's data lie now, if not where they did.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def evaluate(run, finetune_epochs, finetune_lr, cascade, score, losses, data, workers, as_json):
    """Evaluate a run: accuracy and executed MACs by density, over-fitting, calibration, and every client's accuracy.

    A client's accuracy is that of each class weighted by how much of it the client holds. The worst decile is the mean
    of the tenth of the clients with the lowest. Train - test is the accuracy on as many training images, less that on
    the test set. The calibration error is the expected one, with 15 bins. Fine-tuned models are judged and dropped.

    A cascade needs runs with the same --holdout: its thresholds come from the images that their clients held out, and
    the test images judge it.

    \b
    Example:
      fedgate evaluate runs/first --finetune-epochs 1
      fedgate evaluate runs/big --cascade runs/small
    """
    from fedgate.device_runtime.tables import console

    from .report.results import evaluate_run, evaluation_tables

    if finetune_lr is not None and not finetune_epochs:
        raise click.UsageError("--finetune-lr goes with --finetune-epochs")
    if cascade is not None:
        if finetune_epochs:
            raise click.UsageError("--cascade and --finetune-epochs are two evaluations: give one of them")
        return evaluate_cascade_of(run, cascade, score, losses, data, as_json)
    progress = console(stderr=True, quiet=as_json)
    result = evaluate_run(run, workers, finetune_epochs, finetune_lr, progress, data)
    if as_json:
        click.echo(json.dumps(result))
    else:
        evaluation_tables(result)


def evaluate_cascade_of(run, cascade, score, losses, data, as_json):
    from .report.cascade import LEVELS, cascade_tables, evaluate_cascade

    try:
        shares = [float(each) / 100 for each in losses.split(",")]
    except ValueError:
        shares = [-1.0]
    if not all(0 <= share < 1 for share in shares):
        raise click.UsageError(f"--losses '{losses}' are no points of accuracy such as 0,0.5,1")
    smalls = LEVELS if cascade == LEVELS else cascade.split(",")
    result = evaluate_cascade(run, smalls, score, shares, data)
    if as_json:
        click.echo(json.dumps(result))
    else:
        cascade_tables(result)
