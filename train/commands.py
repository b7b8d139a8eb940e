"""The commands of this stage as functions: start or continue a run, evaluate one."""

import dataclasses
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.tables import console
from fedgate.device_runtime.text import check_utf8

from .config.resolve import changed, resolve
from .data.class_table import plot_class_table, render_class_table
from .engines.make import open_run
from .ingredients import describe_run, make_network, prepare, run_data, start_weights, with_files
from .report.tensorboard import TensorBoardEvents
from .server.inbox import check_inbox
from .server.progress import RoundProgress
from .server.run_directory import RunDirectory, check_new

NETWORK = ("model", "width", "hidden_width", "gate", "gated", "density")


def new_config(options):
    """The configuration of a new run; what `options` do not say of its network is as its base has it."""
    if options.get("base"):
        base = RunDirectory.open(Path(options["base"]).expanduser()).info.config
        options = {name: getattr(base, name) for name in NETWORK} | options
    return resolve(**options)


def resolve_config(resume=None, options=None):
    """The configuration that `run_training` would use, of a new run or of the one in `resume`."""
    if resume is None:
        return new_config(options or {})
    directory = RunDirectory.open(resume)
    check_same(directory, options or {})
    return directory.info.config


def run_training(out, resume, workers=1, quiet=False, options=None, superlink=None, until=None):
    """Start a run in the new folder `out`, or continue the one in `resume`; returns its path.

    options: fields of `TrainConfig`. On resume they may only repeat what the run was started with, but for the place of
    its data. superlink: where the
    clients of a run with the engine "flower" are (`flower.engine.Superlink`). until: stop after this round.
    """
    if bool(out) == bool(resume):
        raise UsageError("give either --out RUN for a new run or --resume RUN to continue one")
    options = options or {}
    check_utf8("the run", out or resume)  # TensorBoard cannot write there
    if resume:
        directory = RunDirectory.open(resume)
        check_same(directory, options)
        check_superlink(directory.info.config, superlink)
        data, parts = run_data(directory.info, options.get("data"))
    else:
        config = new_config(options)
        check_superlink(config, superlink)
        check_new(out)  # now, not after minutes of reading data
        if config.inbox is not None:
            check_inbox(config.inbox)
        data, parts = prepare(config)
        info = describe_run(config, data)
        start = start_weights(info)  # a model that cannot be built leaves no run behind
        info = with_files(info, make_network(info, tensors=start.tensors))
        directory = RunDirectory.create(out, info)
        for note in start.notes:
            console(stderr=True, quiet=quiet).print(note, soft_wrap=True)
    try:
        with open_run(directory, data, parts, workers, superlink) as run:
            follow(run, quiet, directory, not resume, until)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"interrupted; {how_to_continue(directory)}") from error
    except OSError as error:  # the disk is full, most often
        raise FedgateError(
            f"cannot write in {directory.path}: {error.strerror or error}; when it can, {how_to_continue(directory)}"
        ) from error
    return directory.path


def how_to_continue(directory):
    return f"continue with: fedgate train --resume {directory.path}"


def follow(run, quiet, directory, show_partition, until=None):
    """Run the rounds that are left, or those up to `until`, with progress, TensorBoard events and a closing line."""
    out = console(stderr=True, quiet=quiet)
    for warning in run.data.warnings:  # what is lost is told in any case
        console(stderr=True).print(warning)
    if run.config.inbox_unsigned:
        warning = f"WARNING: --inbox-unsigned: whoever can write into {run.config.inbox} speaks for every client"
        console(stderr=True).print(warning, soft_wrap=True)
    for note in run.data.notes:
        out.print(note)
    if show_partition:
        out.print(render_class_table(run.table, run.data.labels))
        plot_class_table(run.table, run.data.labels, directory.path / "clients.png")
    done = run.state.round
    if 0 < done < run.config.rounds:
        out.print(f"continuing after round {done} of {run.config.rounds}")
    events = TensorBoardEvents(directory.path / "tensorboard", done)
    row = None
    with RoundProgress(run.config.rounds, done, quiet) as progress:
        for row in run.rounds(until):
            events.write(row)
            progress.update(row)
    events.close()
    if run.state.round < run.config.rounds:
        out.print(
            f"stopped after round {run.state.round} of {run.config.rounds}; {how_to_continue(directory)}",
            soft_wrap=True,
        )
    elif row is not None:
        out.print(f"{directory.model_path}: accuracy {100 * row['accuracy']:.2f} %", soft_wrap=True)
    else:
        out.print(f"{directory.path} is finished: {directory.model_path}", soft_wrap=True)


def check_superlink(config, superlink):
    """Refuse a run whose clients are nowhere, and a SuperLink for a run whose clients are here."""
    if config.engine == "flower" and superlink is None:
        raise UsageError("--engine flower needs --superlink HOST:PORT, through which its clients are reached")
    if config.engine != "flower" and superlink is not None:
        raise UsageError(f"--superlink is for --engine flower, and this run's is {config.engine}")


def check_same(directory, options):
    """Refuse options that contradict those a run was started with; its data may lie elsewhere now."""
    config = directory.info.config
    given = dataclasses.asdict(changed(config, **options | {"data": config.data}))
    for name, value in dataclasses.asdict(config).items():
        if given[name] != value:
            option = name.replace("_", "-")
            raise UsageError(
                f"{directory.path} is a run with --{option} {as_option(value)}; "
                f"it cannot be continued with {as_option(given[name])}"
            )


def as_option(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else value
