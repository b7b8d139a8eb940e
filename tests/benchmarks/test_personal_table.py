"""The benchmark of personal static programs: what it forces on the gates is what a static program computes."""

import json

import numpy as np
import personal
import torch
from click.testing import CliRunner

from fedgate.device_runtime.formats.macs import open_count
from fedgate.export.eval_networks import static_network
from fedgate.train.data.augment import normalise
from fedgate.train.data.load import load_data
from fedgate.train.network.build import build_network


def test_forced_masks_are_a_static_network_also_after_training():
    torch.manual_seed(0)
    data = load_data("digits")
    network = build_network("cnn", "paper", (0.5,), 10, (1, 8, 8)).to(memory_format=torch.channels_last)
    for gate in network.gates.values():
        torch.nn.init.normal_(gate.predictor.weight, std=0.3)
    bench = personal.Bench(data, 200, 50, 32, seed=0)
    channels = personal.kept_channels(bench, network, np.arange(40))
    assert all(len(channels[name]) == open_count(0.5, gate.out_channels) for name, gate in network.gates.items())
    personal.force(network, channels)
    weights = {name: unit.conv.weight.detach().clone() for name, unit in network.units.items()}
    bench.local_epoch(network, np.arange(200), (0.5,), 0.05, seed=1)
    for name, unit in network.units.items():
        moved = torch.nonzero((unit.conv.weight != weights[name]).flatten(1).any(1)).flatten().tolist()
        assert set(moved) <= set(channels.get(name, moved))  # closed channels rest
        assert moved
    x = normalise(data.test_images[:20], data.mean, data.std)
    with torch.no_grad():
        expected = static_network(network, 0, channels)(x)
        torch.testing.assert_close(network.eval()(x), expected, rtol=1e-4, atol=1e-4)


def test_rows(tmp_path):
    out = tmp_path / "rows.json"
    options = ["--train-images", "400", "--test-images", "100", "--rounds", "1", "--members", "2", "--json", str(out)]
    done = CliRunner().invoke(personal.main, options, catch_exceptions=False)
    assert done.exit_code == 0 and "static, own" in done.output
    rows = json.loads(out.read_text())
    assert {(row["classes"], row["network"], row["local_epochs"]) for row in rows} == {
        (classes, network, epochs)
        for classes in (2, 3)
        for network in ("dynamic", "static, global", "static, own", "dense")
        for epochs in (0, 1)
    }
    assert all(0 <= row["worst_decile"] <= row["accuracy"] <= 1 and row["train_images"] == 400 for row in rows)
