"""`fedgate train`."""

import click

from .config.command import GroupedCommand, config_options, heading
from .config.file import config_callback, preset_callback, render_options
from .config.options import AGGREGATION, COMMUNICATION, DATA, FAULTS, LOCAL, NETWORK, ROUNDS, RUN, TrainConfig
from .config.presets import PRESETS, preset_notes, preset_section


@click.command(cls=GroupedCommand, closing=preset_section(), short_help="Train a network federatedly, gated or not.")
@heading("Run")
@click.option(
    "--config",
    type=click.Path(),
    metavar="FILE",
    is_eager=True,
    callback=config_callback,
    help="Take options from this TOML file: names as here, without --. The command line wins over it.",
)
@click.option(
    "--preset",
    metavar="NAME",
    is_eager=True,
    callback=preset_callback,
    help=f"{', '.join(PRESETS)}, below. File and command line win over it.",
)
@click.option("--print-config", is_flag=True, help="Print all options as a file for --config, and start nothing.")
@click.option("--out", type=click.Path(), metavar="RUN", help="New run directory.")
@click.option("--resume", type=click.Path(), metavar="RUN", help="Continue this run after any interruption.")
@click.option(
    "--until",
    type=click.IntRange(1),
    metavar="ROUND",
    help="Stop after this round, such as for devices to train; --resume goes on.",
)
@config_options(TrainConfig, RUN)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes; the result is the same with any number.",
)
@click.option("--quiet", is_flag=True, help="No progress.")
@config_options(TrainConfig, DATA, NETWORK, ROUNDS, FAULTS, LOCAL, AGGREGATION, COMMUNICATION)
@heading("Clients on other machines (--engine flower)")
@click.option("--superlink", metavar="HOST:PORT", help="The SuperLink, as fedgate flower superlink starts it.")
@click.option("--ca", type=click.Path(), metavar="FILE", help="Trust the certificate that this ca.crt has signed.")
@click.option("--insecure", is_flag=True, help="No TLS: anybody on the way can read and change everything.")
@click.option(
    "--node-patience",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a round waits for a node that is not there.",
)
@click.option(
    "--node-timeout",
    type=click.FloatRange(1),
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a round waits for a node's answer.",
)
def train(
    config,
    preset,
    print_config,
    out,
    resume,
    until,
    workers,
    quiet,
    superlink,
    ca,
    insecure,
    node_patience,
    node_timeout,
    **options,
):
    """Train a network federatedly, with gates where a density is asked for; clients are non-IID, and simulated on this
    machine or each on its own.

    \b
    Example:
      fedgate train --model resnet20 --data ./cifar10 --clients 10 --density 0.5 --workers 2 --out runs/first
      fedgate train --resume runs/first
      fedgate train --preset cpu --data ./cifar10 --lr 0.05 --print-config > mine.toml
      fedgate train --config mine.toml --seed 1 --workers 2 --out runs/second

    \b
    mine.toml:
      data = "./cifar10"
      density = [0.25, 0.5, 1.0]
      local-epochs = 5
    """
    from .commands import resolve_config, run_training

    options = {name: value for name, value in options.items() if value is not None}
    if print_config:
        click.echo(render_options(resolve_config(resume, options), train.params, preset_notes(preset)), nl=False)
    else:
        where = None
        if superlink or ca or insecure:
            from .engines.flower.cli import checked_superlink

            where = checked_superlink(superlink, ca, insecure, node_patience, node_timeout)
        run_training(out, resume, workers, quiet, options, where, until)
