"""A fine-tuning that is stopped, wherever that is, ends with the same bytes once it is started again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tuned_world import PLAN, Interrupting, one_class, outputs, tuned

from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.tuning.finetune import Watcher, finetune


def test_an_interrupted_one_ends_with_the_same_bytes(world, tmp_path):
    tuned(world, tmp_path / "whole")
    for watcher in (Interrupting(image=20), Interrupting(step=1), Interrupting(step=5)):
        with pytest.raises(KeyboardInterrupt):
            tuned(world, tmp_path / "parts", watcher=watcher)
    assert (tmp_path / "parts" / "work").is_dir()
    steps = []
    watcher = Watcher()
    watcher.training = lambda progress: steps.append(progress.state.steps)
    tuned(world, tmp_path / "parts", watcher=watcher)
    assert steps[0] == 6 and outputs(tmp_path / "parts") == outputs(tmp_path / "whole")


def test_an_interrupted_one_without_some_classes_ends_with_the_same_bytes(world, tmp_path):
    data = one_class(world, tmp_path)
    finetune(world.bundle, data, tmp_path / "whole", PLAN, "litert")
    for step in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            finetune(world.bundle, data, tmp_path / "parts", PLAN, "litert", watcher=Interrupting(step=step))
    finetune(world.bundle, data, tmp_path / "parts", PLAN, "litert")
    assert outputs(tmp_path / "parts") == outputs(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from fedgate.device_runtime.formats.bundle import load_bundle
from fedgate.device_runtime.tuning import finetune, training
from fedgate.device_runtime.tuning.plan import TunePlan

class Killer(finetune.Watcher):
    def training(self, progress):
        if progress.state.steps == 5:
            os.kill(os.getpid(), signal.SIGKILL)

training.SAVE_SECONDS = 0.0
bundle, data, out = map(Path, sys.argv[1:])
plan = TunePlan(level=0, epochs=3, batch_size=16, lr=0.05, seed=3)
finetune.finetune(load_bundle(bundle), data, out, plan, runtime="litert", watcher=Killer())
"""


def test_a_killed_one_too(world, tmp_path):
    tuned(world, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, world.bundle.path, world.top / "samples.safetensors", tmp_path / "parts"]
    assert subprocess.run([*map(str, command)]).returncode == -9
    steps, watcher = [], Watcher()
    watcher.training = lambda progress: steps.append(progress.state.steps)
    tuned(world, tmp_path / "parts", watcher=watcher)
    assert steps[0] > 1 and outputs(tmp_path / "parts") == outputs(tmp_path / "whole")


def test_one_that_was_killed_while_it_tidied_up(world, tmp_path):
    """Its results are there, and what it kept meanwhile is too: whole, or out of the way to be removed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: os.rename("/nowhere", "/nowhere"))
        tuned(world, tmp_path / "out")
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert len(first) == 2 and (tmp_path / "out" / "work").is_dir()
    tuned(world, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first
    (tmp_path / "out" / ".work.part").mkdir()
    with pytest.raises(UsageError, match="finished fine-tuning: choose another --out"):
        tuned(world, tmp_path / "out")
    assert len(os.listdir(tmp_path / "out")) == 2
