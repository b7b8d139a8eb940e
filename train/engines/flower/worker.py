"""What a client does with a task: train, and remember between rounds what the server believes it to hold.

Nothing here knows Flower, nor torch. What trains is a *learner*, made for a run when its first task comes:

    learner.train(task, download, held, state) -> `Trained`
    learner.close()

of a `Task`, the download's blob, the weights and the arrays of its own that the client holds, None and {} for nothing.
What a client keeps lies in files, DIR/RUN/round-00012.safetensors: the
weights of that round as `public/NAME`, the client's own arrays as `state/NAME`. The server takes a client to hold a
round once it has used the update to it, so rounds are kept until the server names a later one.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.tensors import read_tensors, unpack, write_tensors

from .messages import Answer, hello_answer, read_task, write_answer

FORMAT = "fedgate-client"
log = logging.getLogger("fedgate.node")


@dataclass(frozen=True)
class Trained:
    """An update's blob; what the client keeps, and the weights that the download led to; figures for the log."""

    blob: bytes
    state: dict[str, np.ndarray]
    held: dict[str, np.ndarray]
    figures: dict[str, float]  # loss, accuracy, cpu_seconds, seconds


class Worker:
    def __init__(self, client, work, trainer, make_learner, has_trunk=False):
        """client: its number. work: the folder for what it keeps. trainer: a name of what trains, for the server's log.

        make_learner: (document of config.json, client, frozen weights or None) -> learner. has_trunk: it needs no
        frozen weights from the server.
        """
        self.client, self.work, self.trainer, self.make_learner = client, Path(work), trainer, make_learner
        self.has_trunk = has_trunk
        self.run = self.learner = None
        self.work.mkdir(parents=True, exist_ok=True)

    def answer(self, text, blobs):
        """The answer to a message: (text, blobs). Whatever is wrong is told to the server, and to the log."""
        try:
            task = read_task(text)
            if task is None:
                return hello_answer(self.client, self.trainer), {}
            answer = self.train(task, blobs)
        except FedgateError as error:
            answer = Answer(error=str(error))
        except Exception as error:
            log.exception("the task failed")
            answer = Answer(error=f"{type(error).__name__}: {error}")
        if answer.error:
            log.warning("this task was not done: %s", answer.error)
        return write_answer(answer)

    def train(self, task, blobs):
        if task.client != self.client:
            raise FedgateError(f"this node is client {self.client}, not {task.client}")
        if "download" not in blobs:
            raise FedgateError("the task has no download")
        folder = self.work / safe_name(task.run.get("run"))
        trunk = self.trunk(task, blobs, folder)
        if task.trunk is not None and trunk is None and not self.has_trunk:
            return Answer(lacks="trunk")
        public, state = None, {}
        if task.held is not None:
            kept = recall(folder, task.held)
            if kept is None:
                return Answer(lacks="held")
            public, state = kept
        learner = self.learner_of(task, trunk)
        download, round_ = blobs["download"], task.base_round + 1
        log.warning("run %s, round %d: training", folder.name, round_)
        trained = learner.train(task, download, public, state)
        remember(folder, task.base_round, trained.held, trained.state, task.held)
        figures = trained.figures
        log.warning(
            "run %s, round %d: %d bytes down, %d up, loss %.3f, %.1f s",
            *(folder.name, round_, len(download), len(trained.blob), figures["loss"], figures["seconds"]),
        )
        return Answer(trained.blob, figures)

    def learner_of(self, task, trunk):
        """The run's learner; another run's makes room for it."""
        if self.run != (task.run, task.trunk):
            if self.learner is not None:
                self.learner.close()
            self.run = self.learner = None
            self.learner = self.make_learner(task.run, self.client, trunk)
            self.run = (task.run, task.trunk)
        return self.learner

    def trunk(self, task, blobs, folder):
        """The frozen weights that a task is about, from its blob or from an earlier one; None where there are none."""
        if task.trunk is None or self.run == (task.run, task.trunk):
            return None if task.trunk is None else {}
        path = folder / "trunk.safetensors"
        if "trunk" in blobs:
            tensors, meta = unpack(blobs["trunk"], "the trunk")
            folder.mkdir(exist_ok=True)
            write_tensors(path, tensors, meta)
        elif path.is_file():
            tensors, meta = read_tensors(path)
        else:
            return None
        return tensors if meta.get("sha256") == task.trunk else None


def safe_name(run):
    """A run's name as that of a folder: the server chose it."""
    if not (isinstance(run, str) and 0 < len(run) <= 64 and run.isascii() and run.isalnum()):
        raise FedgateError("the task names no run")
    return run


def path_of(folder, round_):
    return folder / f"round-{round_:05d}.safetensors"


def recall(folder, round_):
    """What the client kept of a round, (weights, its own arrays); None where that is gone or damaged."""
    try:
        tensors, meta = read_tensors(path_of(folder, round_))
    except FedgateError:
        return None
    if meta.get("format") != FORMAT or meta.get("round") != round_:
        return None
    parts = {kind: {} for kind in ("public", "state")}
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        parts.setdefault(kind, {})[name] = value
    return parts["public"], parts["state"]


def remember(folder, round_, public, state, held):
    """Keep a round, and forget all before `held`, the one that the server believes to be held; other runs too."""
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder and any(other.glob("round-*.safetensors")):
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    named = {f"public/{name}": value for name, value in public.items()}
    named |= {f"state/{name}": value for name, value in state.items()}
    write_tensors(path_of(folder, round_), named, {"format": FORMAT, "version": 1, "round": round_})
    for path in folder.glob("round-*.safetensors"):
        number = path.stem.removeprefix("round-")
        if number.isdigit() and held is not None and int(number) < held:
            path.unlink(missing_ok=True)
