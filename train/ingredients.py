"""What a run is made of: its data, their partition and its network, from a resolved configuration."""

import dataclasses
import os
import platform
import uuid
from importlib import metadata

import torch

from fedgate.device_runtime.errors import UsageError

from .config import TrainConfig
from .config.resolve import changed
from .data.load import load_data
from .data.partition import partition
from .local.client import resolve_precision
from .network.build import build_network, load_tensors
from .network.own_code import check_code
from .network.tails import freeze, trunk
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


def with_code(info: RunInfo, network):
    """The description of a new run, with the hashes of the files that its own network was made of, if it has one."""
    return dataclasses.replace(info, resolved=info.resolved | {"code": network.code}) if network.code else info


def base_tensors(info: RunInfo):
    """The weights that a run starts from where it has a `base`, else None; a base of another network is refused."""
    if info.config.base is None:
        return None
    base = RunDirectory.open(info.config.base)
    check_code(base.info.config.model, base.info.resolved.get("code"))
    tensors = base.model_tensors()
    make_network(info, tensors=tensors)
    return tensors


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
    parts = partition(
        data.train_labels.numpy(), config.clients, config.partition, config.seed, groups=data.train_groups
    )
    return data, parts


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
