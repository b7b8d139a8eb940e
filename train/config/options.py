"""Every option of a training run that its result depends on; what `config.json` of a run directory holds.

A field here is all that an option needs: the command line, the checks, option files and docs/options.md come from it.
What names stand for is told where it is made: a test compares these lists with the code that knows them.
"""

import dataclasses
import json
from dataclasses import dataclass

from fedgate.device_runtime.formats.codec_table import CODECS, IN_WORDS

from .declare import option

RUN, DATA, NETWORK, ROUNDS = "Run", "Data and clients", "Network and gates", "Rounds and devices"
FAULTS, LOCAL, AGGREGATION, COMMUNICATION = "Simulated faults", "Local training", "Aggregation", "Communication"
TRAINABLE = ("all", "head", "last-stage")


@dataclass(frozen=True)
class TrainConfig:
    """The options of a run as `resolve` makes them: paths are absolute, and gate and density say what they mean."""

    # Run
    rounds: int = option(20, RUN, "Rounds of federated training.", low=1, high=1_000_000)
    seed: int = option(0, RUN, "Of everything random.", low=0, high=2**32 - 1)
    device: str = option("auto", RUN, "cpu, cuda or auto.")
    engine: str = option(
        "auto",
        RUN,
        "How the clients of a round train: loop (one after the other), cohort (together, as stacked networks; with one "
        "worker), auto (cohort on cuda) or flower (each on its own machine, below).",
        metavar="NAME",
        noun="engine",
        choices=("auto", "loop", "cohort", "flower"),
    )

    # Data and clients
    data: str = option(
        "digits",
        DATA,
        "digits, a folder (parquet as on the Hugging Face hub, or images by class), a hub name, or "
        "cifar-10-binary.tar.gz. With --resume: where the run's data lie now.",
        metavar="NAME",
    )
    image: str | None = option(None, DATA, "The column of pictures, where the data has several.", metavar="COLUMN")
    label: str | None = option(None, DATA, "The column to predict, where the data has several.", metavar="COLUMN")
    group: str | None = option(None, DATA, "The column of natural ids for the partition `natural`.", metavar="COLUMN")
    image_size: int | None = option(
        None, DATA, "Crop and resize every image to this many pixels square.", low=1, high=2**14
    )
    background: str = option(
        "white", DATA, "What is transparent becomes this: white, #RRGGBB or R,G,B.", metavar="COLOUR"
    )
    normalise: str = option(
        "data",
        DATA,
        "Mean and deviation of the inputs: data (those of the training pixels), imagenet, or MEAN/STD such as "
        "0.5,0.5,0.5/0.25,0.25,0.25.",
        metavar="WHAT",
    )
    skip_unreadable: bool = option(False, DATA, "Leave out pictures that cannot be read.")
    clients: int = option(8, DATA, "Number of clients.", low=1, high=100_000)
    holdout: float = option(
        0.0,
        DATA,
        "Share of every client's images, of each class where it can, that trains nothing: to calibrate by.",
        metavar="SHARE",
        low=0.0,
        high=0.9,
    )
    partition: str = option("dirichlet:0.3", DATA, "iid, dirichlet:ALPHA, classes:K or natural.", metavar="SCHEME")

    # Network and gates
    model: str = option(
        "cnn",
        NETWORK,
        "cnn, resnet20, resnet32, resnet44, resnet56, resnet18, vgg11, vgg16, or FILE.py:FUNCTION for your own.",
        metavar="NAME",
    )
    width: float = option(1.0, NETWORK, "Channels of a slim network, as a fraction.", low=1e-3, high=16.0)
    hidden_width: float = option(
        1.0, NETWORK, "Channels inside of residual blocks, as a fraction of those they add.", low=1e-3, high=4.0
    )
    gate: str | None = option(
        None,
        NETWORK,
        "paper, fbs, scale (closes no channel) or none (no gates: the dense network). Without it: paper where a "
        "density is asked for, else none.",
    )
    gated: str = option(
        "all",
        NETWORK,
        "Convolutions with a gate: all, or hidden: those alone that feed no residual add.",
        noun="set of gated convolutions",
        choices=("all", "hidden"),
    )
    density: tuple[float, ...] | None = option(
        None,
        NETWORK,
        "Share of its channels that a layer keeps open; several make one network with a dial. Without it: 0.5 with "
        "--gate paper or fbs.",
        metavar="R[,R...]",
    )
    density_schedule: float = option(
        0.5, NETWORK, "Share of the rounds over which the density falls from 1.", metavar="SHARE", low=0.0, high=1.0
    )
    capacity: str | None = option(
        None,
        NETWORK,
        "Densities of weaker and stronger clients with their shares, such as 1.0:0.3,0.4:0.7; each trains its own "
        "alone. Densities of the network where --density is not given. The density schedule holds for them too.",
        metavar="R:SHARE[,...]",
    )

    # Rounds and devices
    fraction_train: float = option(1.0, ROUNDS, "Share of the clients that a round draws.", low=0.0, high=1.0)
    min_clients: int = option(
        1, ROUNDS, "A round draws at least as many clients; with fewer good updates it leaves the state as it was."
    )
    deadline: float | None = option(
        None, ROUNDS, "Simulated time after which a round ends.", metavar="SECONDS", low=1e-9, high=1e9
    )
    wait_for: int | None = option(
        None, ROUNDS, "End a round with the K-th good update, by simulated time.", metavar="K"
    )
    max_staleness: int = option(
        2,
        ROUNDS,
        "How old the base of a late update, or of one in the inbox, may be.",
        metavar="ROUNDS",
        low=0,
        high=1000,
    )
    inbox: str | None = option(
        None,
        ROUNDS,
        "Updates that come as files, signed by their clients; write them under another name and rename them to "
        "NAME.safetensors.",
        metavar="DIR",
        path=True,
    )
    inbox_unsigned: bool = option(
        False, ROUNDS, "Take files that are not signed, too: whoever can write there speaks for every client."
    )
    client_speed: float = option(
        1.0,
        ROUNDS,
        "Simulated clients: billions of multiply-adds a second in training; an assumption, of a small device.",
        metavar="GMACS",
        low=1e-9,
        high=1e9,
    )
    speed_spread: str = option(
        "0",
        ROUNDS,
        "How clients' speeds differ: the deviation of a log-normal factor, or LOW:HIGH.",
        metavar="SPREAD",
    )
    uplink: str = option("10Mbit", ROUNDS, "Simulated link of each client, in kbit, Mbit or Gbit.", metavar="RATE")
    downlink: str = option("50Mbit", ROUNDS, "The other direction.", metavar="RATE")

    # Simulated faults
    drop_out: float = option(0.0, FAULTS, "Chance that a client vanishes in a round.", metavar="P", low=0.0, high=1.0)
    garbage: float = option(0.0, FAULTS, "Chance that a client sends garbage.", metavar="P", low=0.0, high=1.0)

    # Local training
    local_epochs: int = option(2, LOCAL, "Epochs of a client in a round.", low=1, high=10_000)
    batch_size: int = option(32, LOCAL, "Images a step.", low=1, high=1_000_000)
    lr: float = option(0.1, LOCAL, "Learning rate at the first round.", low=1e-12, high=1e3)
    lr_schedule: str = option(
        "cosine",
        LOCAL,
        "cosine or constant, over the rounds, or exponential.",
        noun="learning-rate schedule",
        choices=("cosine", "constant", "exponential"),
    )
    lr_decay: float = option(
        0.99, LOCAL, "Of the exponential schedule: factor for each local epoch.", low=1e-3, high=1.0
    )
    momentum: float = option(0.9, LOCAL, "Of SGD; starts anew each round.", low=0.0, high=0.9999)
    weight_decay: float = option(5e-4, LOCAL, "Of SGD.", low=0.0, high=1.0)
    clip_norm: float = option(1.0, LOCAL, "Largest gradient norm of a step; 0 clips nothing.", low=0.0, high=1e9)
    adaptive_gradient: bool = option(True, LOCAL, "Channels that no sample of a batch opens do not move in its step.")
    augment: str = option(
        "auto",
        LOCAL,
        "none, crop, crop-flip or auto (by data).",
        noun="augmentation",
        choices=("auto", "none", "crop", "crop-flip"),
    )
    precision: str = option(
        "auto",
        LOCAL,
        "fp32, bf16 or auto (bf16 where the hardware has it).",
        noun="precision",
        choices=("auto", "fp32", "bf16"),
    )
    trainable: str = option(
        "all",
        LOCAL,
        "all, head or last-stage: what is not trained stays as in --base.",
        noun="trainable part",
        choices=TRAINABLE,
    )
    base: str | None = option(
        None, LOCAL, "Start from this run: its network and its weights.", metavar="RUN", path=True
    )
    init: str | None = option(
        None, LOCAL, "Start from the weights of this file, .safetensors or .pth.", metavar="FILE", path=True
    )
    teacher: str | None = option(
        None, LOCAL, "Distil from the network of this run, which every client gets once.", metavar="RUN", path=True
    )
    distill: float = option(
        0.7,
        LOCAL,
        "Share of the loss that is the teacher's; the rest is the labels'.",
        metavar="SHARE",
        low=0.0,
        high=1.0,
    )
    temperature: float = option(4.0, LOCAL, "By which both networks' logits are divided.", low=1e-3, high=1e3)

    # Aggregation
    algorithm: str = option(
        "fedavg",
        AGGREGATION,
        "fedavg, fedprox, fednova or scaffold.",
        noun="algorithm",
        choices=("fedavg", "fedprox", "fednova", "scaffold"),
    )
    proximal_mu: float = option(
        0.01, AGGREGATION, "FedProx: how strongly clients stay near the server's weights.", low=0.0, high=1e6
    )
    server_optimizer: str = option(
        "none",
        AGGREGATION,
        "none, momentum (FedAvgM) or adam (FedAdam).",
        noun="server optimizer",
        choices=("none", "momentum", "adam"),
    )
    server_lr: float | None = option(
        None, AGGREGATION, "Its learning rate: 1, and 0.01 for adam, if not given.", low=1e-12, high=1e3
    )
    server_momentum: float = option(0.9, AGGREGATION, "Its momentum; Adam's first.", low=0.0, high=0.9999)
    clip_update: float = option(
        0.0, AGGREGATION, "Longest change of a client (L2); 0 clips nothing.", low=0.0, high=1e9
    )
    clip_to_median: float = option(
        2.0,
        AGGREGATION,
        "The same, as a multiple of the round's median change; ones far beyond are refused, as are ones that do "
        "not follow from the client's last; norm statistics stay near their medians. 0 does none of it.",
        metavar="FACTOR",
        low=0.0,
        high=1e9,
    )
    robust: str = option(
        "none",
        AGGREGATION,
        "none, trimmed-mean or median, of each weight over the clients.",
        noun="robust aggregation",
        choices=("none", "trimmed-mean", "median"),
    )
    reestimate_norms: bool = option(
        False,
        AGGREGATION,
        "After the last round, pool norm statistics of the averaged model from all its clients.",
    )

    # Communication
    upload: str = option(
        "salient",
        COMMUNICATION,
        "salient (the channels that local training opened) or full.",
        noun="upload",
        choices=("salient", "full"),
    )
    upload_share: float = option(
        1.0,
        COMMUNICATION,
        "Of a salient upload: only the strongest channels that make up this share of a layer's salience.",
        metavar="SHARE",
        low=0.01,
        high=1.0,
    )
    codec: str = option("fp32", COMMUNICATION, f"Of uploads: {IN_WORDS}.", noun="codec", choices=CODECS)
    download_codec: str = option(
        "fp32", COMMUNICATION, "The same of downloads to clients of the last round.", noun="codec", choices=CODECS
    )

    def to_json(self):
        """Canonical JSON text: equal configurations give equal bytes."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1)
