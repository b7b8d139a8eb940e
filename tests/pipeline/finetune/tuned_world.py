"""How the tests of fine-tuning tune, interrupt, and look at what came of it."""

import shutil
from pathlib import Path

from fedgate.device_runtime.tuning.finetune import Watcher, finetune
from fedgate.device_runtime.tuning.plan import TunePlan
from fedgate.train.ingredients import make_network
from fedgate.train.network.build import load_tensors

OPTIONS = {"clients": 3, "rounds": 3, "local_epochs": 1, "partition": "iid", "batch_size": 64, "density": (0.5,)}
PLAN = TunePlan(level=0, epochs=3, batch_size=16, lr=0.05, seed=3)
COUNT = 50  # of a client's images: batches that are not whole


def tuned(world, out, data="samples.safetensors", **options):
    return finetune(world.bundle, world.top / data, out, PLAN, runtime="litert", **options)


def eager(world, tensors=None):
    """The run's network in eager PyTorch, with some of its tensors replaced."""
    network = make_network(world.run.info)
    load_tensors(network, world.run.model_tensors())
    load_tensors(network, tensors or {}, partly=True)
    return network


def outputs(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


class Interrupting(Watcher):
    """Stops at an image or at a step."""

    def __init__(self, image=None, step=None):
        self.left, self.step = image, step

    def image(self):
        self.left = None if self.left is None else self.left - 1
        if self.left == 0:
            raise KeyboardInterrupt

    def training(self, progress):
        if progress.state.steps == self.step:
            raise KeyboardInterrupt


def one_class(world, tmp_path, name="2"):
    """A folder with the images of one class, and an empty one of another."""
    (tmp_path / "one" / "5").mkdir(parents=True)
    shutil.copytree(world.top / "photos" / name, tmp_path / "one" / name)
    return tmp_path / "one"
