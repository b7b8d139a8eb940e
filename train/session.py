"""The commands of this stage as functions: start or continue a run, evaluate one."""

import dataclasses

from rich.console import Console
from rich.table import Table

from fedgate.device_runtime import macs
from fedgate.device_runtime.errors import UsageError

from .board import Board
from .config import TrainConfig
from .partition import class_table, plot_class_table, render_class_table
from .progress import RoundProgress
from .rounds import Run, describe_run, make_engine, make_network, mean_overlap, prepare
from .run_directory import RunDirectory


def run_training(out, resume, workers=1, quiet=False, options=None):
    """Start a run in the new folder `out`, or continue the one in `resume`; returns its path.

    options: fields of `TrainConfig`. On resume they may only repeat what the run was started with.
    """
    if bool(out) == bool(resume):
        raise UsageError("give either --out RUN for a new run or --resume RUN to continue one")
    options = options or {}
    if resume:
        directory = RunDirectory.open(resume)
        check_same(directory, options)
        data, parts = prepare(directory.info.config)
    else:
        config = TrainConfig(**options)
        data, parts = prepare(config)
        directory = RunDirectory.create(out, describe_run(config, data))
    run = Run(directory, data, parts, workers)
    try:
        follow(run, quiet, directory, show_partition=not resume)
    except BaseException as error:
        run.close(at_once=True)
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"interrupted; continue with: fedgate train --resume {directory.path}") from error
        raise
    run.close()
    return directory.path


def follow(run, quiet, directory, show_partition):
    """Run the rounds that are left, with progress, TensorBoard events and a closing line."""
    console = Console(stderr=True, quiet=quiet)
    for note in run.data.notes:
        console.print(note, highlight=False, soft_wrap=True)
    if show_partition:
        console.print(render_class_table(run.table, run.data.labels))
        plot_class_table(run.table, run.data.labels, directory.path / "clients.png")
    done = run.state.round
    if 0 < done < run.config.rounds:
        console.print(f"continuing after round {done} of {run.config.rounds}")
    board = Board(directory.path / "tensorboard", done)
    row = None
    with RoundProgress(run.config.rounds, done, quiet) as progress:
        for row in run.rounds():
            board.write(row)
            progress.update(row)
    board.close()
    if row is not None:
        speed = run.images / run.cpu_seconds if run.cpu_seconds else 0.0
        console.print(
            f"accuracy {100 * row['accuracy']:.2f} %  ({speed:.0f} images per CPU second)  {directory.model_path}",
            highlight=False,
            soft_wrap=True,
        )
    else:
        console.print(f"{directory.path} is finished: {directory.model_path}", soft_wrap=True)


def check_same(directory, options):
    """Refuse options that contradict those a run was started with."""
    config = directory.info.config
    given = dataclasses.asdict(dataclasses.replace(config, **options))
    for name, value in dataclasses.asdict(config).items():
        if given[name] != value:
            option = name.replace("_", "-")
            raise UsageError(
                f"{directory.path} is a run with --{option} {as_option(value)}; "
                f"it cannot be continued with {as_option(given[name])}"
            )


def as_option(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def evaluate_run(path, workers=1):
    """Evaluate a run's model; returns a JSON-ready dict: accuracy by level, by client, MACs, masks."""
    directory = RunDirectory.open(path)
    config = directory.info.config
    data, parts = prepare(config)
    tensors = directory.model_tensors()
    engine = make_engine(directory.info, data, parts, workers)
    try:
        evaluation = engine.evaluate(tensors)
    finally:
        engine.close()
    layers = make_network(directory.info).layers
    clients = evaluation.client_accuracy(class_table(data.train_labels.numpy(), parts, len(data.labels)))
    levels = []
    for i, density in enumerate(config.density):
        levels.append(
            {
                "density": density,
                "accuracy": float(evaluation.accuracy()[i]),
                "loss": float(evaluation.loss[i] / evaluation.images[i]),
                "macs_nominal": sum(macs.nominal(layers, density).values()),
                "macs_executed": float(evaluation.executed[i] / evaluation.images[i]),
                "mask_overlap": mean_overlap(evaluation.salience, i),
                "by_client": [float(value) for value in clients[i]],
            }
        )
    return {
        "run": str(path),
        "model": config.model,
        "gate": config.gate,
        "data": directory.info.data["name"],
        "test_images": int(evaluation.images[0]),
        "macs_dense": sum(macs.dense(layers).values()),
        "levels": levels,
    }


def evaluation_tables(result):
    """Print what `evaluate_run` returned."""
    console = Console()
    title = f"{result['run']}: {result['model']}, gate {result['gate']}, {result['test_images']} test images"
    table = Table(title=title, title_justify="left")
    for column in (
        "density",
        "accuracy",
        "worst client",
        "MACs nominal",
        "MACs executed",
        "of dense",
        "mask overlap",
    ):
        table.add_column(column, justify="right")
    for level in result["levels"]:
        overlap = level["mask_overlap"]
        table.add_row(
            f"{level['density']:g}",
            f"{100 * level['accuracy']:.2f} %",
            f"{100 * min(level['by_client']):.2f} %",
            f"{level['macs_nominal']:,}",
            f"{level['macs_executed']:,.0f}",
            f"{100 * level['macs_executed'] / result['macs_dense']:.1f} %",
            "-" if overlap is None else f"{overlap:.2f}",
        )
    console.print(table)
    table = Table(title="accuracy by client", title_justify="left")
    table.add_column("client", justify="right")
    for level in result["levels"]:
        table.add_column(f"density {level['density']:g}", justify="right")
    for client in range(len(result["levels"][0]["by_client"])):
        cells = [f"{100 * level['by_client'][client]:.2f} %" for level in result["levels"]]
        table.add_row(str(client), *cells)
    console.print(table)
