"""`fedgate export` as a function: a run directory becomes a bundle whose every program was run and compared."""

from pathlib import Path

from fedgate.device_runtime.errors import FedgateError, UsageError, choose
from fedgate.device_runtime.formats.manifest import FITS
from fedgate.device_runtime.formats.records import SALIENCE_META
from fedgate.device_runtime.formats.tensors import pack
from fedgate.device_runtime.pictures.fit import parse_colour
from fedgate.device_runtime.tables import console as plain_console
from fedgate.device_runtime.text import printable
from fedgate.train.config.options import TRAINABLE
from fedgate.train.data.augment import normalise
from fedgate.train.ingredients import make_network, run_data
from fedgate.train.network.build import load_tensors
from fedgate.train.server.run_directory import RunDirectory

from .build import build_bundle
from .lowering import LOWERINGS
from .static_masks import check_client, kept_by_level, mask_records
from .trainable import check_runtimes, make_trainable

COMPARED_IMAGES = 16  # run through every program before the bundle is written


def load_network(path):
    """The trained network of a run, in evaluation mode: (run directory, network)."""
    directory = RunDirectory.open(path)
    network = make_network(directory.info)
    load_tensors(network, directory.model_tensors())
    return directory, network.eval()


def test_images(data, count):
    """The first test images of a run's data, normalised: float32 (count, C, H, W)."""
    return normalise(data.test_images[:count], data.mean, data.std).numpy()


def export_run(
    run,
    out,
    runtimes,
    dense_run=None,
    overwrite=False,
    console=None,
    client=None,
    calibrate=None,
    trainable=None,
    batch_size=16,
    moved=None,
    left_out=None,
):
    """Export a run to a bundle for the given runtimes; returns the loaded `Bundle`.

    dense_run: a run of the same model with gate `none`, whose network becomes the `dense` program; without it that is
    this run's network with its gates removed, good as a baseline of speed alone.
    client, calibrate: whose masks static programs have, where not those of all clients: a client's, by its number, or
    those of a folder of images.
    trainable: "head" or "last-stage", to add the programs that train it in batches of `batch_size`. moved: where the
    run's data lie now, if not where they did. left_out: a list that gets {"program", "reason"} of each program that a
    runtime cannot have: one that cannot be lowered to it, or that it cannot run; the console says so too.
    Raises `FedgateError` when a program does not compute what eager PyTorch computes, or when none could be made;
    nothing is written then.
    """
    console = console or plain_console(stderr=True, quiet=True)
    out = Path(out)
    if not runtimes:
        raise UsageError(f"no runtime to export to; known: {', '.join(LOWERINGS)}")
    for runtime in runtimes:
        choose("runtime", runtime, LOWERINGS)
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists: choose another --out, or replace it with --overwrite")
    directory, network = load_network(run)
    check_masks(directory, client, calibrate)
    dense = network if dense_run is None else check_dense(load_network(dense_run)[1], network, dense_run)
    if trainable is not None:
        choose("trainable part", trainable, TRAINABLE[1:])
        check_runtimes(runtimes)
    data, _ = run_data(directory.info, moved)
    images = test_images(data, COMPARED_IMAGES)
    checkpoint = directory.load()
    if checkpoint is None:
        raise FedgateError(f"{run} has no checkpoint, and so no salience record: train it for a round or more")
    scope, records = mask_records(directory, network, checkpoint.salience, client, calibrate, console)
    kept = kept_by_level(network, records, scope, console)
    part = None if trainable is None else make_trainable(directory, checkpoint.state, trainable, batch_size)
    return build_bundle(
        network,
        dense,
        kept,
        images,
        runtimes,
        out,
        manifest_fields(directory, network, checkpoint.state.round, dense_run) | {"masks": scope},
        pack_salience(records if network.gates else {}),
        overwrite,
        console,
        part,
        data,
        left_out,
    )


def check_masks(directory, client, calibrate):
    """Refuse contradictory or unknown owners of static masks, before minutes of work."""
    if client is not None and calibrate is not None:
        raise UsageError("give either --client N or --calibrate DIR: static programs have the masks of one record")
    if (client is not None or calibrate is not None) and directory.info.config.gate == "none":
        raise UsageError(f"{directory.path} was trained with gate 'none': it has no masks to choose")
    if client is not None:
        check_client(directory, client)


def check_dense(dense, network, path):
    """Refuse a dense run that is no baseline for a network."""
    if dense.gates:
        raise UsageError(f"{path} is no dense run: it was trained with gate '{dense.gate}', not 'none'")
    shapes = [[(layer.name, layer.in_channels, layer.out_channels) for layer in n.layers] for n in (dense, network)]
    if shapes[0] != shapes[1] or dense.shape != network.shape:
        raise UsageError(f"{path} holds another model: a baseline has the same layers")
    return dense


def pack_salience(records):
    arrays = {}
    for scope, record in records.items():
        arrays |= record.tensors(scope)
    return pack(arrays, SALIENCE_META)


def manifest_fields(directory, network, rounds, dense_run):
    """The manifest's fields that describe the run; the programs are added when they are made."""
    info, config = directory.info, directory.info.config
    return {
        "model": printable(config.model),
        "gate": config.gate,
        "width": config.width,
        "dataset": info.data["name"],
        "labels": info.data["labels"],
        "input": {
            "shape": [1, *network.shape],
            "layout": "NCHW",
            "mean": info.data["mean"],
            "std": info.data["std"],
            "fit": FITS[0],
            "background": list(parse_colour(config.background)),
        },
        "densities": list(network.densities),
        "default_level": len(network.densities) - 1,
        "layers": [layer.to_json() for layer in network.layers],
        "training": {
            "run": info.run,
            "rounds": rounds,
            "clients": config.clients,
            "partition": config.partition,
            "seed": config.seed,
            "trainable": config.trainable,
            "dense": "trained without gates" if dense_run else "gates removed: a baseline of speed, not of accuracy",
        },
    }
