"""`fedgate train`."""

import click

from .config_file import config_callback, preset_callback, render_options
from .option_groups import GroupedCommand, heading
from .presets import PRESETS, preset_notes, preset_section


def floats(ctx, param, value):
    """A comma-separated list of numbers."""
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"'{value}' is no list of numbers such as 0.25,0.5,1.0") from error


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
@click.option("--rounds", type=int, help="Rounds of federated training.  [20]")
@click.option("--seed", type=int, help="Of everything random.  [0]")
@click.option("--device", help="cpu, cuda or auto.  [auto]")
@click.option(
    "--engine",
    metavar="NAME",
    help="How the clients of a round train: loop (one after the other), cohort (together, as stacked networks; with "
    "one worker), auto (cohort on cuda) or flower (each on its own machine, below).  [auto]",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes; the result is the same with any number.",
)
@click.option("--quiet", is_flag=True, help="No progress.")
@heading("Data and clients")
@click.option(
    "--data",
    metavar="NAME",
    help="digits, a folder (parquet as on the Hugging Face hub, or images by class), a hub name, or "
    "cifar-10-binary.tar.gz. With --resume: where the run's data lie now.  [digits]",
)
@click.option("--image", metavar="COLUMN", help="The column of pictures, where the data has several.")
@click.option("--label", metavar="COLUMN", help="The column to predict, where the data has several.")
@click.option("--group", metavar="COLUMN", help="The column of natural ids for the partition `natural`.")
@click.option("--image-size", type=click.IntRange(1), help="Crop and resize every image to this many pixels square.")
@click.option(
    "--background", metavar="COLOUR", help="What is transparent becomes this: white, #RRGGBB or R,G,B.  [white]"
)
@click.option(
    "--skip-unreadable/--no-skip-unreadable", default=None, help="Leave out pictures that cannot be read.  [off]"
)
@click.option("--clients", type=int, help="Number of clients.  [8]")
@click.option("--partition", metavar="SCHEME", help="iid, dirichlet:ALPHA, classes:K or natural.  [dirichlet:0.3]")
@heading("Network and gates")
@click.option(
    "--model",
    metavar="NAME",
    help="cnn, resnet20, resnet32, resnet56, resnet18, vgg11, vgg16, or FILE.py:FUNCTION for your own.  [cnn]",
)
@click.option("--width", type=float, help="Channels of a slim network, as a fraction.  [1.0]")
@click.option(
    "--hidden-width", type=float, help="Channels inside of residual blocks, as a fraction of those they add.  [1.0]"
)
@click.option(
    "--gate",
    help="paper, fbs, scale (closes no channel) or none (no gates: the dense network). "
    "Without it: paper where a density is asked for, else none.",
)
@click.option("--gated", help="Convolutions with a gate: all, or hidden: those alone that feed no residual add.  [all]")
@click.option(
    "--density",
    callback=floats,
    metavar="R[,R...]",
    help="Share of its channels that a layer keeps open; several make one network with a dial. "
    "Without it: 0.5 with --gate paper or fbs.",
)
@click.option(
    "--density-schedule",
    type=float,
    metavar="SHARE",
    help="Share of the rounds over which the density falls from 1.  [0.5]",
)
@click.option(
    "--capacity",
    metavar="R:SHARE[,...]",
    help="Densities of weaker and stronger clients with their shares, such as 1.0:0.3,0.4:0.7; each trains its own "
    "alone. Densities of the network where --density is not given. The density schedule holds for them too.",
)
@heading("Rounds and devices")
@click.option("--fraction-train", type=float, help="Share of the clients that a round draws.  [1.0]")
@click.option(
    "--min-clients",
    type=int,
    help="A round draws at least as many clients; with fewer good updates it leaves the state as it was.  [1]",
)
@click.option("--deadline", type=float, metavar="SECONDS", help="Simulated time after which a round ends.")
@click.option("--wait-for", type=int, metavar="K", help="End a round with the K-th good update, by simulated time.")
@click.option(
    "--max-staleness",
    type=int,
    metavar="ROUNDS",
    help="How old the base of a late update, or of one in the inbox, may be.  [2]",
)
@click.option(
    "--inbox",
    type=click.Path(),
    metavar="DIR",
    help="Updates that come as files, signed by their clients; write them under another name and rename them to "
    "NAME.safetensors.",
)
@click.option(
    "--inbox-unsigned/--no-inbox-unsigned",
    default=None,
    help="Take files that are not signed, too: whoever can write there speaks for every client.  [off]",
)
@click.option(
    "--client-speed",
    type=float,
    metavar="GMACS",
    help="Simulated clients: billions of multiply-adds a second in training; an assumption, of a small device.  [1.0]",
)
@click.option(
    "--speed-spread",
    metavar="SPREAD",
    help="How clients' speeds differ: the deviation of a log-normal factor, or LOW:HIGH.  [0]",
)
@click.option("--uplink", metavar="RATE", help="Simulated link of each client, in kbit, Mbit or Gbit.  [10Mbit]")
@click.option("--downlink", metavar="RATE", help="The other direction.  [50Mbit]")
@heading("Simulated faults")
@click.option("--drop-out", type=float, metavar="P", help="Chance that a client vanishes in a round.  [0.0]")
@click.option("--garbage", type=float, metavar="P", help="Chance that a client sends garbage.  [0.0]")
@heading("Local training")
@click.option("--local-epochs", type=int, help="Epochs of a client in a round.  [2]")
@click.option("--batch-size", type=int, help="Images a step.  [32]")
@click.option("--lr", type=float, help="Learning rate at the first round.  [0.1]")
@click.option("--lr-schedule", help="cosine or constant, over the rounds, or exponential.  [cosine]")
@click.option("--lr-decay", type=float, help="Of the exponential schedule: factor for each local epoch.  [0.99]")
@click.option("--momentum", type=float, help="Of SGD; starts anew each round.  [0.9]")
@click.option("--weight-decay", type=float, help="Of SGD.  [0.0005]")
@click.option("--clip-norm", type=float, help="Largest gradient norm of a step; 0 clips nothing.  [1.0]")
@click.option(
    "--adaptive-gradient/--no-adaptive-gradient",
    default=None,
    help="Channels that no sample of a batch opens do not move in its step.  [on]",
)
@click.option("--augment", help="none, crop, crop-flip or auto (by data).  [auto]")
@click.option("--precision", help="fp32, bf16 or auto (bf16 where the hardware has it).  [auto]")
@click.option("--trainable", help="all, head or last-stage: what is not trained stays as in --base.  [all]")
@click.option("--base", type=click.Path(), metavar="RUN", help="Start from this run: its network and its weights.")
@heading("Aggregation")
@click.option("--algorithm", help="fedavg, fedprox, fednova or scaffold.  [fedavg]")
@click.option("--proximal-mu", type=float, help="FedProx: how strongly clients stay near the server's weights.  [0.01]")
@click.option("--server-optimizer", help="none, momentum (FedAvgM) or adam (FedAdam).  [none]")
@click.option("--server-lr", type=float, help="Its learning rate: 1, and 0.01 for adam, if not given.")
@click.option("--server-momentum", type=float, help="Its momentum; Adam's first.  [0.9]")
@click.option("--clip-update", type=float, help="Longest change of a client (L2); 0 clips nothing.  [0.0]")
@click.option(
    "--clip-to-median",
    type=float,
    metavar="FACTOR",
    help="The same, as a multiple of the round's median change; ones far beyond are refused, and norm statistics stay "
    "near their medians. 0 does none of it.  [2.0]",
)
@click.option("--robust", help="none, trimmed-mean or median, of each weight over the clients.  [none]")
@click.option(
    "--reestimate-norms/--no-reestimate-norms",
    default=None,
    help="After the last round, pool norm statistics of the averaged model from all its clients.  [off]",
)
@heading("Communication")
@click.option("--upload", help="salient (the channels that local training opened) or full.  [salient]")
@click.option(
    "--upload-share",
    type=float,
    metavar="SHARE",
    help="Of a salient upload: only the strongest channels that make up this share of a layer's salience.  [1.0]",
)
@click.option("--codec", help="Of uploads: fp32 (weights), fp16, int8 or int4 (differences).  [fp32]")
@click.option("--download-codec", help="The same of downloads to clients of the last round.  [fp32]")
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
    from .session import resolve_config, run_training

    options = {name: value for name, value in options.items() if value is not None}
    if print_config:
        click.echo(render_options(resolve_config(resume, options), train.params, preset_notes(preset)), nl=False)
    else:
        where = None
        if superlink or ca or insecure:
            from .flower.cli import checked_superlink

            where = checked_superlink(superlink, ca, insecure, node_patience, node_timeout)
        run_training(out, resume, workers, quiet, options, where, until)
