"""Fine-tuning on the device route trains as eager PyTorch does, and judges what it has trained."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tuned_world import COUNT, PLAN, eager, one_class, tuned

from fedgate.device_runtime.formats.update import decode_update
from fedgate.device_runtime.tuning.absent import reference_set
from fedgate.device_runtime.tuning.finetune import finetune
from fedgate.device_runtime.tuning.model import open_tail, tuned_trunks
from fedgate.device_runtime.tuning.personal import load_personal
from fedgate.device_runtime.tuning.plan import TunePlan
from fedgate.device_runtime.tuning.programs import load_tail_programs
from fedgate.device_runtime.tuning.show import print_result
from fedgate.device_runtime.tuning.steps import batches
from fedgate.train.data.augment import normalise
from fedgate.train.local import step as local_step
from fedgate.train.local.adaptive import Moves


def test_steps_equal_eager_training(world, tmp_path):
    tuned(world, tmp_path / "out", validation=0)
    personal = load_personal(tmp_path / "out" / "personal.safetensors", world.bundle)
    network = eager(world).train()
    parameters = {name: p for name, p in network.body.named_parameters() if p.requires_grad}
    rates, momenta = local_step.Rates(PLAN.lr, PLAN.momentum, PLAN.weight_decay, PLAN.clip_norm), {}
    moves, head = Moves(network, PLAN.momentum), world.bundle.manifest.layers[-1].name
    logits = [p for name, p in network.body.named_parameters() if name.startswith(head)]
    absent, kept = np.setdiff1d(np.arange(10), world.labels), [p.detach().clone() for p in logits]
    images = normalise(torch.from_numpy(world.images), world.data.mean, world.data.std)
    for epoch in range(PLAN.epochs):
        for rows in batches(np.arange(COUNT), PLAN.batch_size, PLAN.seed, epoch):
            moves.before()
            loss = F.cross_entropy(network(images[rows]), torch.from_numpy(world.labels[rows]))
            network.zero_grad()
            loss.backward()
            with torch.no_grad():
                grads = {name: p.grad for name, p in parameters.items()}
                after, momenta = local_step.step(parameters, grads, momenta, moves.after(PLAN.lr), rates)
                for name, p in parameters.items():
                    p.copy_(after[name])
            for p, own in zip(logits, kept, strict=True):  # a step reads no other row of it, nor of its momentum
                p.data[absent] = own[absent]
    state, before = network.body.state_dict(), world.bundle.tail().tensors
    assert personal.steps == 3 * 4 and personal.examples == COUNT
    for name, value in personal.tensors.items():
        np.testing.assert_allclose(value, state[name].numpy(), rtol=0, atol=1e-5, err_msg=name)
    assert any((value != before[name]).any() for name, value in personal.tensors.items())
    spec = world.bundle.tail().spec
    update = decode_update((tmp_path / "out" / "update-client-0.safetensors").read_bytes(), spec)
    for layer, channels in update.channels.items():
        assert channels.tolist() == np.flatnonzero(moves.touched[layer].numpy()).tolist()


def test_the_tuned_model_equals_eager(world, tmp_path, need_kernel):
    need_kernel()
    tuned(world, tmp_path / "out")
    personal = load_personal(tmp_path / "out" / "personal.safetensors", world.bundle)
    network = eager(world, personal.tensors).eval()
    images = normalise(world.data.test_images[:40], world.data.mean, world.data.std)
    with torch.no_grad():
        expected, masks = network(images).numpy(), network.open().numpy()
    trunks = tuned_trunks(world.bundle)
    assert [trunk.needs_kernel for trunk in trunks] == [True, False]
    for trunk in trunks:
        model = open_tail(world.bundle, trunk, personal.tensors)
        for image, logits, mask in zip(images.numpy(), expected, masks, strict=True):
            found, opened, *_ = model.run(image[None], 0)
            np.testing.assert_allclose(found[0], logits, rtol=0, atol=1e-4 * np.abs(expected).max())
            assert np.array_equal(opened[0], mask)


def test_early_stopping_keeps_the_best_epoch(world, tmp_path):
    plan = TunePlan(level=0, lr=0.3, epochs=40, seed=1)
    result = finetune(world.bundle, world.top / "samples.safetensors", tmp_path / "out", plan, "litert", patience=2)
    losses = [row["validation_loss"] for row in result["epochs"]]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 2 < 40 and result["best_epoch"] == best + 1
    personal = load_personal(tmp_path / "out" / "personal.safetensors", world.bundle)
    assert personal.epochs == best + 1 and personal.after == result["epochs"][best]["validation_accuracy"]


def test_classes_without_images_keep_their_logits_parameters(world, tmp_path):
    """Weight decay and momentum would move them too; the update says nothing of them, and the rest does move."""
    out = tmp_path / "out"
    result = finetune(world.bundle, one_class(world, tmp_path), out, PLAN, "litert", validation=0.25)
    others = [label for label in world.bundle.manifest.labels if label != "2"]
    assert result["absent"] == result["unseen"] == others
    personal = load_personal(out / "personal.safetensors", world.bundle)
    update = decode_update((out / "update-client-0.safetensors").read_bytes(), world.bundle.tail().spec)
    head, before = world.bundle.manifest.layers[-1].name, world.bundle.tail().tensors
    for name in (f"{head}.weight", f"{head}.bias"):
        moved = (personal.tensors[name] != before[name]).reshape(10, -1).any(1)
        assert np.flatnonzero(moved).tolist() == [2]
        sent = update.values[name].reshape(10, -1)
        kept = [np.isin(sent[row], before[name][row]).all() for row in range(10)]
        assert all(kept[:2]) and all(kept[3:])


def test_it_is_judged_on_the_bundles_images_of_the_others_too(world, tmp_path, capsys):
    reference = world.bundle.reference()
    assert np.bincount(reference.labels).tolist() == [6] * 10
    wild = TunePlan(level=0, epochs=12, lr=0.2, seed=1)
    data = one_class(world, tmp_path)
    result = finetune(world.bundle, data, tmp_path / "last", wild, "litert", validation=0.25, patience=20)
    both = [(row["validation_loss"] + row["reference_loss"]) / 2 for row in result["epochs"]]
    assert [row["judged_loss"] for row in result["epochs"]] == pytest.approx(both)
    assert result["best_epoch"] == int(np.argmin(both)) + 1
    found = result["reference"]
    assert (found["images"], found["classes"], found["labelled"]) == (54, 9, True)
    personal = load_personal(tmp_path / "last" / "personal.safetensors", world.bundle)
    images = normalise(torch.from_numpy(reference.labelled), world.data.mean, world.data.std)
    with torch.no_grad():
        for when, tensors in (("before", {}), ("after", personal.tensors)):
            right = eager(world, tensors).eval()(images).argmax(1).numpy() == reference.labels
            assert found[when] == pytest.approx(right[reference.labels != 2].mean(), abs=0.02)
    print_result(result)
    said = capsys.readouterr().out
    assert "no images of 0, 1, 3, 4, 5, 6, 7, 8, 9: their logits' parameters stay" in said
    assert "the held-out images are all of 2" in said
    assert f"of the classes absent here (54 images): {found['before']:.1%} before, {found['after']:.1%} after" in said
    assert ("warning: the training unlearned" in said) == (found["before"] - found["after"] > 0.1)


def test_an_older_bundle_judges_by_what_the_untuned_network_says(world, tmp_path):
    older = SimpleNamespace(**vars(world.bundle.reference()) | {"labelled": None, "labels": None})
    programs, start = load_tail_programs(world.bundle, "litert"), world.bundle.tail().tensors
    names = world.bundle.tail().spec.parameters
    found = reference_set(
        SimpleNamespace(manifest=world.bundle.manifest, reference=lambda: older),
        programs,
        {name: start[name] for name in names},
        np.arange(10),
        0,
    )
    with torch.no_grad():
        answers = eager(world).eval()(torch.from_numpy(older.image)).argmax(1).tolist()
    assert found.labels.tolist() == answers and not found.labelled
