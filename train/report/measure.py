"""What a run's model does with the test set, class by class: the one part of a report that needs data and network."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from fedgate.device_runtime.errors import FedgateError

from ..data.class_table import class_table
from ..ingredients import data_facts, make_network, prepare
from ..local.client import resolve_precision
from ..local.evaluation import CHUNK, Evaluation, evaluate
from ..network.build import load_tensors
from ..server.run_directory import RunDirectory
from .personal import worst_decile


@dataclass(frozen=True)
class Measured:
    """table: int64 (clients, classes), examples held. client_accuracy: (clients,) at the highest density;
    worst_decile: the mean of its lowest tenth.

    opened: gated layer -> (classes, C), the share of a class's test images that opened a channel at `density`, the
    lowest one, where the choice is hardest; NaN for a class without test images. notes: what could not be had, and why.
    """

    table: np.ndarray | None = None
    client_accuracy: np.ndarray | None = None
    worst_decile: float | None = None
    density: float | None = None
    opened: dict[str, np.ndarray] | None = None
    notes: tuple[str, ...] = ()


class Measurer:
    """Measures runs one after the other; runs of the same data read it once.

    own_code: whether FILE.py:FUNCTION of a run's `--model` may be executed.
    """

    def __init__(self, own_code=False):
        self.own_code = own_code
        self.prepared = {}

    def measure(self, path) -> Measured:
        """Whatever can be had of a run; what cannot is a note, never an error."""
        found = Measured()
        try:
            directory = RunDirectory.open(path)
            data, parts = self._prepare(directory.info)
            found = replace(found, table=class_table(data.train_labels.numpy(), parts, len(data.labels)))
            if ":" in directory.info.config.model and not self.own_code:
                raise FedgateError("its network is code in a file, which is run only where --own-code allows it")
            tensors = directory.model_tensors()
            return self._evaluate(found, directory.info, data, tensors)
        except (FedgateError, OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            missing = "not evaluated on its test set" if found.table is not None else "data and model not looked at"
            return replace(found, notes=(f"{missing}: {reason}",))

    def _prepare(self, info):
        config = info.config
        key = (
            config.data,
            config.label,
            config.group,
            config.image,
            config.image_size,
            config.background,
            config.skip_unreadable,
            config.clients,
            config.partition,
            config.seed,
        )
        if key not in self.prepared:
            data, parts = prepare(config)
            self.prepared = {key: (data, parts, data_facts(data))}  # one at a time: data may be large
        data, parts, facts = self.prepared[key]
        same = all(facts[name] == info.data[name] for name in ("sha256", "shape"))
        if not same or len(facts["labels"]) != len(info.data["labels"]):
            raise FedgateError(f"'{config.data}' now holds other data than the run was trained on")
        return data, parts

    def _evaluate(self, found, info, data, tensors):
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        same = device.type == info.resolved["device"]
        precision = info.resolved["precision"] if same else resolve_precision("auto", device)
        network = make_network(info, device).to(memory_format=torch.channels_last)
        load_tensors(network, tensors)
        evaluations = by_class(network, data, precision)
        accuracy = sum_of(evaluations).client_accuracy(found.table)
        found = replace(found, client_accuracy=accuracy[-1], worst_decile=float(worst_decile(accuracy)[-1]))
        if not network.gates or info.config.gate == "scale":
            return found
        opened = {
            name: np.stack([shares(evaluation, name, gate.out_channels) for evaluation in evaluations])
            for name, gate in network.gates.items()
        }
        return replace(found, density=network.densities[0], opened=opened)


def by_class(network, data, precision) -> list[Evaluation | None]:
    """An `Evaluation` of each class's test images, None for a class without any."""
    order = torch.argsort(data.test_labels, stable=True)
    counts = torch.bincount(data.test_labels, minlength=len(data.labels)).tolist()
    evaluations = []
    for chosen in order.split(counts):
        parts = [
            evaluate(
                network,
                data.test_images[part],
                data.test_labels[part],
                (data.mean, data.std),
                precision,
                len(data.labels),
            )
            for part in chosen.split(CHUNK)
            if len(part)
        ]
        evaluations.append(sum_of(parts) if parts else None)
    return evaluations


def sum_of(evaluations):
    """The sum of evaluations, leaving out None."""
    first, *others = (evaluation for evaluation in evaluations if evaluation is not None)
    for other in others:
        first = first + other
    return first


def shares(evaluation, name, channels, level=0):
    """Share of the images that opened each channel of a layer: (C,)."""
    if evaluation is None:
        return np.full(channels, np.nan)
    return evaluation.salience.opened[name][level] / evaluation.salience.samples[level]
