"""A run of a last stage and its bundle, and what a client has tuned with it, made once a session."""

from types import SimpleNamespace

import pytest
import torch
from last_stage import run_last_stage, write_images
from tuned_world import COUNT, OPTIONS, tuned

from fedgate.export import build, pipeline


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A base run; a run of its last stage after one round, with an inbox; its bundle; and a client's images.

    Of the programs for inference the bundle has `dense` alone: making the others takes half a minute.
    """
    top = tmp_path_factory.mktemp("finetune")
    torch.set_num_threads(1)
    directory, data, parts = run_last_stage(top, OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        plans = build.plan_programs
        patch.setattr(build, "plan_programs", lambda *args: [plan for plan in plans(*args) if plan.role == "dense"])
        bundle = pipeline.export_run(top / "run", top / "digits.fedgate", ["litert"], trainable="last-stage")
    images, labels = write_images(top, data, parts[1], (2, 3), COUNT)
    return SimpleNamespace(top=top, run=directory, data=data, parts=parts, bundle=bundle, images=images, labels=labels)


@pytest.fixture(scope="session")
def personal_file(world):
    tuned(world, world.top / "tuned")
    return world.top / "tuned" / "personal.safetensors"
