"""What a run is made of: its data, their partition and its network, from a resolved configuration."""

import dataclasses
import os
import platform
import uuid
from importlib import metadata
from pathlib import Path

import torch

from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.formats.tensors import pack, tensors_hash
from fedgate.device_runtime.storage import sha256_file

from .config import TrainConfig
from .config.resolve import changed
from .config.values import parse_normalise
from .data.holdout import hold_out
from .data.load import load_data
from .data.partition import partition
from .local.client import resolve_precision
from .network.build import build_network, load_tensors
from .network.own_code import check_code
from .network.tails import freeze, trunk
from .network.weights import Start, fitted, read_weights
from .server.run_directory import RunDirectory, RunInfo


def resolve_device(name):
    """ "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def data_facts(data):
    """What a run records of its data; the hash tells whether a resumed run still has the same."""
    return {
        "name": data.name,
        "sha256": data.sha256,
        "labels": list(data.labels),
        "shape": list(data.train_images.shape[1:]),
        "mean": [float(value) for value in data.mean],
        "std": [float(value) for value in data.std],
    }


def describe_run(config: TrainConfig, data) -> RunInfo:
    """Look up everything that "auto" stands for, once: a resumed run keeps it."""
    device = resolve_device(config.device)
    resolved = {
        "device": device.type,
        "precision": resolve_precision(config.precision, device),
        "augment": data.augment if config.augment == "auto" else config.augment,
    }
    versions = {name: metadata.version(name) for name in ("fedgate", "torch", "numpy")}
    versions["python"] = platform.python_version()
    return RunInfo(uuid.uuid4().hex[:12], config, resolved, data_facts(data), versions)


def make_network(info: RunInfo, device="cpu", tensors=None):
    """A run's network with its initial weights, which its seed alone decides, or with those of named arrays."""
    config, data = info.config, info.data
    check_code(config.model, info.resolved.get("code"))
    torch.manual_seed(config.seed)
    chosen = (config.model, config.gate, config.density, len(data["labels"]), data["shape"])
    network = build_network(*chosen, config.width, config.gated, config.hidden_width)
    if tensors is not None:
        load_tensors(network, tensors)
    freeze(network, trunk(network.layers, config.trainable))
    return network.to(device)


def with_files(info: RunInfo, network):
    """The description of a new run, with the hashes of what it is made of."""
    files = {"code": network.code} if network.code else {}
    if info.config.teacher is not None:
        *_, files["teacher"] = open_teacher(info)
    if info.config.init is not None:
        files["init"] = sha256_file(Path(info.config.init))
    return dataclasses.replace(info, resolved=info.resolved | files)


def start_weights(info: RunInfo) -> Start:
    """The weights that a run starts from: of its `base` or its `init`; no tensors where they are those of its seed.

    Raises `UsageError` for those of another network, and for a file that has changed since the run was started.
    """
    if info.config.init is not None:
        file = info.config.init
        if info.resolved.get("init", digest := sha256_file(Path(file))) != digest:
            raise UsageError(f"{file} is not the file any more with which this run was started")
        return fitted(make_network(info), read_weights(file), file)
    return Start(base_tensors(info), ())


def base_tensors(info: RunInfo):
    """The weights of a run's `base`, or None where it has none; a base of another network is refused."""
    if info.config.base is None:
        return None
    base = RunDirectory.open(info.config.base)
    check_code(base.info.config.model, base.info.resolved.get("code"))
    tensors = base.model_tensors()
    make_network(info, tensors=tensors)
    return tensors


def make_teacher(info: RunInfo, device="cpu"):
    """The network that a run distils from, and the (mean, std) of the images that it was trained on."""
    network, statistics, _ = open_teacher(info, device)
    return network, statistics


def open_teacher(info: RunInfo, device="cpu"):
    """(network, (mean, std), facts) of a run's teacher; facts: what the run records of it.

    Those are its hash, the bytes that it is sent as, and its MACs for an example. Raises `UsageError` for a teacher of
    other images or classes, and for one that has changed since the run was started.
    """
    path = info.config.teacher
    directory = RunDirectory.open(path)
    about = directory.info
    if about.data["shape"] != info.data["shape"] or about.data["labels"] != info.data["labels"]:
        raise UsageError(f"--teacher {path} was trained on other classes, or on images of another shape")
    tensors = directory.model_tensors()
    network = make_network(about, device, tensors)
    work = sum(macs.nominal(network.layers, about.config.density[-1]).values())
    facts = {"sha256": tensors_hash(tensors), "bytes": len(pack(tensors, {})), "macs": int(work)}
    if info.resolved.get("teacher", facts) != facts:
        raise UsageError(f"--teacher {path} is not the network any more with which this run was started")
    return network, (tuple(about.data["mean"]), tuple(about.data["std"])), facts


def prepare(config: TrainConfig):
    """The data of a configuration and its partition: (data, list of index arrays, one a client)."""
    data = load_data(
        config.data,
        config.label,
        config.group,
        config.image_size,
        config.image,
        config.background,
        config.skip_unreadable,
    )
    data = normalised(data, config.normalise)
    return data, client_images(config, data)[0]


def client_images(config: TrainConfig, data):
    """Each client's training images, and those that it holds out: two lists of index arrays, one a client."""
    labels = data.train_labels.numpy()
    parts = partition(labels, config.clients, config.partition, config.seed, groups=data.train_groups)
    return hold_out(labels, parts, config.holdout, config.seed)


def normalised(data, text):
    """The data with the mean and deviation of an option --normalise."""
    chosen, channels = parse_normalise(text), data.train_images.shape[1]
    if chosen is None:
        return data
    mean, std = (values * channels if len(values) == 1 else values for values in chosen)
    if len(mean) != channels:
        raise UsageError(f"--normalise {text} is of {len(mean)} channels, and the images have {channels}")
    return dataclasses.replace(data, mean=mean, std=std)


def run_data(info: RunInfo, moved=None):
    """The data of a run that exists, and their partition. moved: where they lie now, if not where they did.

    Their hash tells whether they are the same. Raises `UsageError` for others, and for none.
    """
    config = info.config if moved is None else changed(info.config, data=str(moved))
    try:
        data, parts = prepare(config)
    except UsageError as error:
        if moved is not None or os.path.exists(config.data):
            raise
        raise UsageError(f"{error}; if the run's data lie elsewhere now, name the place with --data") from error
    check_data(info, data, config.data)
    return data, parts


def check_data(info: RunInfo, data, place=None):
    """Refuse data that are not a run's own: other pixels or labels, or classes of other names."""
    if (data.sha256, list(data.labels)) != (info.data["sha256"], info.data["labels"]):
        raise UsageError(f"'{place or info.config.data}' holds other data than this run was trained on")
