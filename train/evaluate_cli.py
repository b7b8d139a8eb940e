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
@click.option("--data", metavar="NAME", help="Where the run's data lie now, if not where they did.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def evaluate(run, finetune_epochs, finetune_lr, data, workers, as_json):
    """Evaluate a run: accuracy and executed MACs by density, over-fitting, calibration, and every client's accuracy.

    A client's accuracy is that of each class weighted by how much of it the client holds. The worst decile is the mean
    of the tenth of the clients with the lowest. Train - test is the accuracy on as many training images, less that on
    the test set. The calibration error is the expected one, with 15 bins. Fine-tuned models are judged and dropped.

    \b
    Example:
      fedgate evaluate runs/first --finetune-epochs 1
    """
    from fedgate.device_runtime.tables import console

    from .report.results import evaluate_run, evaluation_tables

    if finetune_lr is not None and not finetune_epochs:
        raise click.UsageError("--finetune-lr goes with --finetune-epochs")
    progress = console(stderr=True, quiet=as_json)
    result = evaluate_run(run, workers, finetune_epochs, finetune_lr, progress, data)
    if as_json:
        click.echo(json.dumps(result))
    else:
        evaluation_tables(result)
