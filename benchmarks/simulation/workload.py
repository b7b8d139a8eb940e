"""What both sides train: the clients' data in a folder, which all processes map, and their tasks."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from fedgate.train.data.load import ImageData, load_data, mean_std
from fedgate.train.data.partition import partition
from fedgate.train.local.client import LocalPlan, client_seed
from fedgate.train.network.build import build_network


@dataclass(frozen=True)
class Workload:
    """statistics: (mean, std) of the data, floats by channel. images: of all clients together, in one epoch."""

    name: str
    model: str
    density: float
    clients: int
    images: int
    epochs: int
    batch_size: int
    augment: str
    precision: str
    classes: int
    shape: tuple[int, int, int]
    statistics: tuple[tuple[float, ...], tuple[float, ...]]

    def network(self):
        """The network with its initial weights, in the layout that training on a CPU wants."""
        torch.manual_seed(0)
        network = build_network(self.model, "paper", (self.density,), self.classes, self.shape)
        return network.to(memory_format=torch.channels_last)

    def plan(self, turn, client):
        """A client's task in a turn (a round)."""
        return LocalPlan(
            densities=(self.density,),
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=0.02,
            augment=self.augment,
            precision=self.precision,
            seed=client_seed(0, turn, client),
        )


def make(folder, name, model, data, clients, images, epochs, batch_size, precision):
    """Write the data of a workload into `folder`; returns it, its `ImageData`, and the examples of each client.

    data: as in `fedgate train`, or "random" for random images of CIFAR-10's shape. images: at most so many.
    """
    if data == "random":
        rng = np.random.default_rng(0)
        pixels = torch.from_numpy(rng.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8))
        labels = torch.from_numpy(np.arange(images) % 10)
        names = [str(label) for label in range(10)]
        data = ImageData("random", names, pixels, labels, pixels[:1], labels[:1], *mean_std(pixels), "crop-flip")
    else:
        data = load_data(data)
    chosen = np.sort(np.random.default_rng(0).permutation(len(data.train_labels))[:images])
    parts = [chosen[part] for part in partition(data.train_labels.numpy()[chosen], clients, "iid", 0)]
    shape, statistics = tuple(data.train_images.shape[1:]), (data.mean, data.std)
    tasks = (epochs, batch_size, data.augment, precision)
    workload = Workload(name, model, 0.5, clients, len(chosen), *tasks, len(data.labels), shape, statistics)
    np.save(folder / "images.npy", data.train_images.numpy())
    np.save(folder / "labels.npy", data.train_labels.numpy())
    np.savez(folder / "parts.npz", **{str(client): part for client, part in enumerate(parts)})
    (folder / "workload.json").write_text(json.dumps(asdict(workload)))
    return workload, data, parts


def read(folder):
    """A workload written by `make`: (workload, images uint8 (N, C, H, W), labels int64 (N,), parts by client).

    The images are mapped, so that several processes share them.
    """
    folder = Path(folder)
    fields = json.loads((folder / "workload.json").read_text())
    fields["shape"], fields["statistics"] = tuple(fields["shape"]), tuple(map(tuple, fields["statistics"]))
    # copy-on-write: torch wants memory that it may write to
    images, labels = (torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in ("images", "labels"))
    with np.load(folder / "parts.npz") as parts:
        return Workload(**fields), images, labels, [torch.from_numpy(parts[str(k)]) for k in range(fields["clients"])]
