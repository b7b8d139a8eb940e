"""Norm statistics pooled from clients, against those of all their images together."""

import json
import shutil

import numpy as np
import pytest
import torch

from fedgate.cli import main
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.formats.tensors import pack, read_tensors
from fedgate.train.data.augment import normalise
from fedgate.train.ingredients import make_network, prepare
from fedgate.train.local.norms import KINDS, encode, measure
from fedgate.train.network.build import load_tensors
from fedgate.train.server.norms import decode, pool
from fedgate.train.server.run_directory import RunDirectory

OPTIONS = [
    "--rounds",
    "2",
    "--clients",
    "10",
    "--partition",
    "classes:2",
    "--local-epochs",
    "1",
    "--density",
    "0.5,1.0",
]


def train(path, *options):
    with pytest.raises(SystemExit) as done:
        main(["train", *OPTIONS, *options, "--quiet", "--out", str(path)])
    return done.value.code


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run without and with the option."""
    folder = tmp_path_factory.mktemp("norms")
    paths = folder / "averaged", folder / "pooled"
    assert not train(paths[0])
    assert not train(paths[1], "--reestimate-norms")
    return paths


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_the_exchange_takes_bytes_and_simulated_time(runs):
    """Of the default links, 10 and 50 Mbit, and devices, 1e9 multiply-adds a second; both levels, one pass of each."""
    config = RunDirectory.open(runs[0]).info.config
    passes = sum(
        sum(macs.nominal(make_network(RunDirectory.open(runs[0]).info).layers, r).values()) for r in (0.5, 1.0)
    )
    last = [{row["client"]: row for row in rows(path) if row["round"] == config.rounds} for path in runs]
    took = []
    for client in range(config.clients):
        plain, pooled = last[0][client], last[1][client]
        down, up = (pooled[key] - plain[key] for key in ("bytes_down", "bytes_up"))
        assert down > 0 and up > 0
        took.append(8 * down / 50e6 + 8 * up / 10e6 + plain["examples"] * passes / 1e9)
        assert pooled["simulated_seconds"] - plain["simulated_seconds"] == pytest.approx(took[-1])
    spent = [each[None]["simulated_seconds"] for each in last]
    assert spent[1] - spent[0] == pytest.approx(max(took))
    assert last[1][None]["simulated_hours"] * 3600 == pytest.approx(
        sum(row["simulated_seconds"] for row in rows(runs[1]) if row["client"] is None)
    )


@torch.no_grad()
def read_by_norms(network, level, images):
    """What each norm reads, each client's images as one batch that is normalised by itself: name -> (positions, C)."""
    found, hooks = {}, []
    for name, unit in network.units.items():

        def keep(_, args, name=name):
            found.setdefault(name, []).append(args[0].permute(0, 2, 3, 1).flatten(0, 2).double())

        hooks.append(unit.norms[level].register_forward_pre_hook(keep))
    network.train()
    network.level = level
    for x in images:
        network(x)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


def test_the_models_statistics_are_those_of_all_clients_images(runs):
    averaged, pooled = (read_tensors(path / "model.safetensors")[0] for path in runs)
    directory = RunDirectory.open(runs[0])
    data, parts = prepare(directory.info.config)
    images = [normalise(data.train_images[torch.from_numpy(part)], data.mean, data.std) for part in parts]
    assert max(map(len, images)) <= 250  # a batch a client
    for level in (0, 1):
        network = make_network(directory.info)
        load_tensors(network, averaged)
        for name, values in read_by_norms(network, level, images).items():
            prefix = f"{name}.norms.{level}"
            np.testing.assert_allclose(pooled[f"{prefix}.running_mean"], values.mean(0), rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(pooled[f"{prefix}.running_var"], values.var(0, False), rtol=1e-3, atol=1e-5)
            assert np.abs(pooled[f"{prefix}.running_var"] / averaged[f"{prefix}.running_var"] - 1).max() > 0.01
    for name, value in averaged.items():
        if not name.endswith(KINDS):
            assert value.tobytes() == pooled[name].tobytes()


def test_bytes_are_counted_where_they_were_sent(runs):
    before, after = map(rows, runs)
    directory = RunDirectory.open(runs[1])
    network = make_network(directory.info)
    data, parts = prepare(directory.info.config)
    assert [row["bytes_up"] for row in before[:11]] == [row["bytes_up"] for row in after[:11]]  # the first round
    for old, new in zip(before[11:21], after[11:21], strict=True):
        images = data.train_images[torch.from_numpy(parts[old["client"]])]
        measured = measure(network, images, (data.mean, data.std), range(2))
        blob = encode(measured, directory.info.run, 2, old["client"], len(images))
        assert new["bytes_up"] - old["bytes_up"] == len(blob)
        assert new["bytes_down"] > old["bytes_down"]
    assert after[21]["bytes_up"] == sum(row["bytes_up"] for row in after[11:21])
    assert after[21]["bytes_down"] == sum(row["bytes_down"] for row in after[11:21])


def test_measuring_leaves_the_network_as_it_was(runs):
    directory = RunDirectory.open(runs[0])
    data, _ = prepare(directory.info.config)
    network = make_network(directory.info)
    before = {name: value.clone() for name, value in network.body.state_dict().items()}
    measure(network, data.train_images[:30], (data.mean, data.std), [1])
    assert all(torch.equal(value, before[name]) for name, value in network.body.state_dict().items())
    assert all(norm.momentum == 0.1 for unit in network.units.values() for norm in unit.norms)


def test_pool_is_the_total_variance():
    draw = np.random.default_rng(0)
    images = [draw.normal(k, 1 + k, (5 + 20 * k, 3)) for k in range(3)]
    measured = [
        (len(x), {"n.running_mean": x.mean(0).astype("f4"), "n.running_var": x.var(0).astype("f4")}) for x in images
    ]
    measured[1][1].update({"m.running_mean": np.array([2.0], "f4"), "m.running_var": np.array([3.0], "f4")})
    found, together = pool(measured), np.concatenate(images)
    np.testing.assert_allclose(found["n.running_mean"], together.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["n.running_var"], together.var(0), rtol=1e-5)
    assert found["m.running_mean"] == 2 and found["m.running_var"] == 3  # of the one client that trains that level
    assert pool([]) == {}


GOOD = {"n.running_mean": np.zeros(4, "f4"), "n.running_var": np.ones(4, "f4")}
SHAPES = dict.fromkeys(GOOD, (4,))
WRONG = {
    "lack or do not know 'n.running_var'": {"n.running_mean": GOOD["n.running_mean"]},
    "lack or do not know 'o'": GOOD | {"o": np.zeros(1, "f4")},
    "is no finite float32": GOOD | {"n.running_mean": np.full(4, np.nan, "f4")},
    r"'n.running_mean' is no finite float32 \[4\]": GOOD | {"n.running_mean": np.zeros(5, "f4")},
    "'n.running_var' is no finite float32": GOOD | {"n.running_var": np.ones(4)},
    "is negative": GOOD | {"n.running_var": np.full(4, -1e-3, "f4")},
    "at most": GOOD | {"n.running_mean": np.zeros(2**16, "f4")},
}


@pytest.mark.parametrize("reason", WRONG)
def test_bad_blobs_are_refused(reason):
    with pytest.raises(FedgateError, match=reason):
        decode(encode(WRONG[reason], "run", 3, 0, 7), SHAPES, "run", 3)


def test_blobs_of_another_time_or_run_are_refused():
    blob = encode(GOOD, "run", 3, 0, 7)
    assert decode(blob, SHAPES, "run", 3)[0] == 7
    for run, round_ in (("run", 4), ("other", 3)):
        with pytest.raises(FedgateError, match=r"the norm statistics: '(run|round)' must be"):
            decode(blob, SHAPES, run, round_)
    for part in (blob[:-1], blob[:20], b"", pack(GOOD, {})):
        with pytest.raises(FedgateError):
            decode(part, SHAPES, "run", 3)
    with pytest.raises(FedgateError, match="'examples' must be"):
        decode(encode(GOOD, "run", 3, 0, 0), SHAPES, "run", 3)


def test_pooling_is_not_robust(tmp_path, capsys):
    assert train(tmp_path / "run", "--reestimate-norms", "--robust", "median") == 2
    assert "--robust median cannot protect --reestimate-norms" in capsys.readouterr().err


@pytest.mark.slow
def test_workers_and_resume_give_the_same_bytes(runs, tmp_path):
    assert not train(tmp_path / "two", "--reestimate-norms", "--workers", "2")
    model = (runs[1] / "model.safetensors").read_bytes()
    assert (tmp_path / "two" / "model.safetensors").read_bytes() == model
    (runs[1] / "model.safetensors").unlink()
    shutil.rmtree(runs[1] / "checkpoints" / "round-00002")  # killed before the last round was complete
    with pytest.raises(SystemExit):
        main(["train", "--resume", str(runs[1]), "--quiet"])
    assert (runs[1] / "model.safetensors").read_bytes() == model
