"""What comes of fine-tuning: an update that a round takes, and a personal model that runs with its own bundle alone."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import fedgate
from tuned_world import COUNT, tuned

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.bundle import load_bundle
from fedgate.device_runtime.formats.tensors import pack, read_tensors, unpack
from fedgate.device_runtime.tuning.client import TailClient
from fedgate.device_runtime.tuning.personal import load_personal
from fedgate.device_runtime.tuning.show import print_result
from fedgate.train.engines.make import open_run
from fedgate.train.server.gather import judge
from fedgate.train.server.run_directory import RunDirectory


def test_the_next_round_takes_a_devices_update(world, tmp_path):
    out = tmp_path / "tuned"
    key = tmp_path / "phone.key"
    assert fedgate("key", world.run.path, "--client", 7, "--out", key).stdout == f"{key}\n"
    options = ["--epochs", 2, "--key", key, "--codec", "int8", "--json", "--lr", 0.05]
    done = fedgate("finetune", world.bundle.path, "--data", world.top / "photos", "--out", out, *options)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["run_trains_it"]
    assert result["after"] > result["before"] and 50 < result["peak_rss_mb"] < 1000
    assert sorted(path.name for path in out.iterdir()) == ["personal.safetensors", "update-client-7.safetensors"]
    copy = shutil.copytree(world.run.path, tmp_path / "run")
    shutil.copy(result["update"], world.top / "inbox" / "phone.safetensors")
    with open_run(RunDirectory.open(copy), world.data, world.parts) as run:
        row = run.round()
        record = run.salience["client-7"]
    lines = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    (mine,) = [line for line in lines if line["client"] == 7]
    assert (mine["status"], mine["reason"], mine["file"]) == ("used", None, "phone.safetensors")
    assert mine["bytes_up"] == result["update_bytes"] and mine["examples"] == result["examples"]
    assert row["refused_files"] == [] and record.samples.tolist() == [result["examples"]]
    # of a trunk's layer too the record says how often each channel was open, and how far from what the bundle knows
    trunk = next(layer.name for layer in world.bundle.manifest.layers if layer.gate)
    assert record.opened[trunk].max() == result["examples"] and record.strength[trunk].max() > 0


def test_it_says_that_a_run_of_the_whole_network_takes_no_update_of_a_tail(world, tmp_path, capsys):
    manifest = world.bundle.manifest
    whole = dataclasses.replace(manifest, training=manifest.training | {"trainable": "all"})
    result = tuned(
        SimpleNamespace(bundle=dataclasses.replace(world.bundle, manifest=whole), top=world.top), tmp_path / "out"
    )
    print_result(result)
    assert "takes no such update" in capsys.readouterr().out.replace("\n", " ")


def sent_plan(run, client, **changes):
    """What a server would send of its plan for a client."""
    fields = vars(run.start().task(client).plan) | changes
    return json.loads(json.dumps(fields))


def test_a_client_without_torch_takes_part_in_rounds(world, tmp_path):
    """Two rounds over the protocol of `train`'s clients, with a lossy codec: what was lost is kept for the next."""
    copy = shutil.copytree(world.run.path, tmp_path / "run")
    bundle = load_bundle(world.bundle.path)
    state, held = {}, None
    with (
        open_run(RunDirectory.open(copy), world.data, world.parts) as run,
        TailClient(bundle, world.top / "samples.safetensors", tmp_path / "features", "litert") as client,
    ):
        assert client.prepare() == []
        for round_ in (1, 2):
            broadcast = run.start().broadcast
            download = broadcast.blob(None if held is None else run.state.round - 1)
            plan = sent_plan(run, 2, codec="int8", batch_size=16, epochs=2)
            result = client.train(2, download, held, plan, state)
            update, reason = judge(result.blob, broadcast.spec, broadcast.public)
            assert reason is None and update.client == 2 and update.examples == COUNT == result.examples
            assert update.local_steps == result.steps == 8 and update.samples == (COUNT,)
            assert result.state["held/round"].tolist() == [round_]
            lost = {name for name, value in result.state.items() if name.startswith("error/") and value.any()}
            assert lost and {name.removeprefix("error/") for name in lost} <= broadcast.spec.parameters.keys()
            assert all(np.array_equal(result.held[name], broadcast.public[name]) for name in broadcast.spec.parameters)
            state, held = result.state, result.held
            if round_ == 1:
                run.round()
        with pytest.raises(FedgateError, match="'algorithm'"):
            client.train(2, download, held, plan | {"algorithm": "scaffold"}, state)
        with pytest.raises(FedgateError, match="not a fedgate tensor file"):
            client.train(2, download[:100], held, plan, state)
    assert unpack(result.blob)[1]["base_hash"] != world.bundle.tail().spec.base_hash


def test_predict_and_verify_with_a_personal_model(world, personal_file, refused):
    photo = next((world.top / "photos" / "2").iterdir())
    done = fedgate("predict", world.bundle.path, photo, "--personal", personal_file, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["role"] in ("tuned skip", "tuned masked") and found["images"][0]["class"] == "2"
    width = sum(layer.out_channels for layer in world.bundle.manifest.layers if layer.gate)
    assert sum(layer["channels"] for layer in found["images"][0]["layers"]) == width
    done = fedgate("verify", world.bundle.path, "--personal", personal_file, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["programs"]
    assert {row["status"] for row in rows} == {"ok"} and {"tuned masked"} <= {row["role"] for row in rows}
    status, line = refused("predict", world.bundle.path, photo, "--personal", personal_file, "--role", "static")
    assert status == 2 and "a personal model runs as skip or masked" in line
    status, line = refused("predict", world.bundle.path, photo, "--personal", personal_file, "--density", "1")
    assert status == 2 and "trained at density 0.5" in line


def test_a_personal_model_of_another_bundle(world, personal_file, tmp_path):
    tensors, meta = read_tensors(personal_file)
    for change, reason in (
        ({"bundle": "0" * 64}, "another bundle"),
        ({"format": "fedgate-tail"}, "'format'"),
        ({"version": 2}, "'version'"),
        ({"level": 1}, "'level'"),
        ({"after": 1.5}, "'after'"),
    ):
        (tmp_path / "p.safetensors").write_bytes(pack(tensors, meta | change))
        with pytest.raises(FedgateError, match=reason):
            load_personal(tmp_path / "p.safetensors", world.bundle)
    name = next(iter(tensors))
    for change, reason in (
        ({name: tensors[name][:1]}, "finite float32"),
        ({name: tensors[name] + np.inf}, "finite float32"),
        ({name: tensors[name].astype(np.float64)}, "finite float32"),
        ({"more": tensors[name]}, "unknown tensor 'more'"),
    ):
        (tmp_path / "p.safetensors").write_bytes(pack(tensors | change, meta))
        with pytest.raises(FedgateError, match=reason):
            load_personal(tmp_path / "p.safetensors", world.bundle)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_personal_file_does_worse_than_a_refusal(world, personal_file, tmp_path, data):
    blob = bytearray(personal_file.read_bytes())
    header = 8 + int.from_bytes(blob[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, min(header + 40, len(blob) - 1)))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        blob = blob[: data.draw(st.integers(0, len(blob)))]
    (tmp_path / "p.safetensors").write_bytes(bytes(blob))
    try:
        personal = load_personal(tmp_path / "p.safetensors", world.bundle)
    except FedgateError as error:
        assert str(error).isprintable()
    else:
        assert all(np.isfinite(value).all() for value in personal.tensors.values())
