"""Federations of real processes, in a network namespace that leads nowhere; they take minutes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def alone(tmp_path, what):
    """Run a function below in a process whose network is a loopback device; skips where that is not allowed."""
    enter = ["unshare", "-Urn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if subprocess.run([*enter, "true"], capture_output=True).returncode != 0:
        pytest.skip("this user may not make network namespaces (unshare -Urn)")
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_flower as t; t.{what}({str(tmp_path)!r})"
    done = subprocess.run([*enter, sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def unroutable():
    """Packets of this namespace that had nowhere to go."""
    lines = [line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    return int(dict(zip(*lines, strict=True))["OutNoRoutes"])


def rounds(path):
    rows = [json.loads(line) for line in (Path(path) / "metrics.jsonl").read_text().splitlines()]
    return [row["round"] for row in rows if row["client"] is None], rows


def ten_rounds(folder):
    """Four nodes, a fifth that nobody registered, and the same run with the local engine."""
    import socket

    from flower_processes import SMALL, Processes

    options, folder = [*SMALL, "--rounds", "10"], Path(folder)
    with Processes(folder) as federation:
        federation.superlink()
        federation.call(["flower", "keys", "elsewhere", "--node", "client-4"])
        for client in range(4):
            federation.node(client)
        stranger = federation.node(4, key="elsewhere/nodes/client-4.key")
        federation.train(*options, "--engine", "flower", "--out", "flower")
        federation.finish("train")
        assert stranger.wait(120) == 1 and "refuses this node's key" in federation.log("client-4")
        federation.train(*options, "--out", "local", superlink=False, name="local")
        federation.finish("local")
    assert (folder / "flower/model.safetensors").read_bytes() == (folder / "local/model.safetensors").read_bytes()
    done, rows = rounds(folder / "flower")
    assert done == list(range(1, 11)) and {row["status"] for row in rows if row["client"] is not None} == {"used"}
    assert unroutable() == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere, pytest.raises(OSError):
        elsewhere.connect(("192.0.2.1", 53))
    assert unroutable() > 0, "this kernel does not count what was sent nowhere"


def killed(folder):
    """A node in mid-round, then the SuperLink, then the process that trains."""
    from flower_processes import SMALL, Processes

    folder = Path(folder)
    options = [*SMALL, "--rounds", "6", "--local-epochs", "8"]
    with Processes(folder) as federation:
        federation.superlink()
        for client in range(4):
            federation.node(client)
        federation.train(*options, "--engine", "flower", "--out", "flower")
        federation.wait_for("client-2", "round 2: training")
        federation.kill("client-2")
        federation.node(2)
        federation.wait_for("train", "round 3/6")
        federation.kill("server")
        federation.superlink()
        federation.wait_for("train", "round 4/6")
        federation.wait_for("client-1", "round 5: training")
        federation.kill("train")
        federation.train("--resume", "flower")
        federation.finish("train")
        federation.train(*options, "--out", "local", superlink=False, name="local")
        federation.finish("local")
    done, rows = rounds(folder / "flower")
    assert done == list(range(1, 7)) and len(rows) == 6 * 5
    assert (folder / "flower/model.safetensors").read_bytes() == (folder / "local/model.safetensors").read_bytes()


def without_torch(folder):
    """Three nodes with torch, and one that trains the tail of a bundle on LiteRT, on its own folder of images."""
    from flower_processes import SMALL, Processes
    from PIL import Image

    from fedgate.train.ingredients import prepare
    from fedgate.train.server.run_directory import RunDirectory

    folder, options = Path(folder), [*SMALL, "--rounds", "10"]
    with Processes(folder) as federation:
        federation.superlink()
        federation.train(*SMALL, "--rounds", "2", "--out", "base", superlink=False, name="base")
        federation.finish("base")
        bundle = ["--to", "litert", "--trainable", "last-stage", "--out", "base.fedgate"]
        federation.call(["export", "base", *bundle], stdout=subprocess.DEVNULL)
        data, parts = prepare(RunDirectory.open(folder / "base").info.config)
        for index in parts[3]:
            image = folder / "images" / data.labels[int(data.train_labels[index])] / f"{index}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data.train_images[index, 0].numpy()).save(image)
        for client in range(3):
            federation.node(client)
        device = federation.node(3, "--bundle", "base.fedgate", "--data", "images", "--runtime", "litert")
        options += ["--trainable", "last-stage", "--base", "base", "--batch-size", "16", "--lr", "0.05"]
        federation.train(*options, "--engine", "flower", "--out", "flower")
        federation.finish("train")
        assert "libtorch" not in Path(f"/proc/{device.pid}/maps").read_text()
        federation.train(*options, "--out", "local", superlink=False, name="local")
        federation.finish("local")
    _, rows = rounds(folder / "flower")
    _, local = rounds(folder / "local")
    _, base = rounds(folder / "base")
    assert {row["status"] for row in rows if row["client"] is not None} == {"used"}
    assert [row["examples"] for row in rows if row["client"] == 3] == [len(parts[3])] * 10
    assert rows[-1]["accuracy"] > base[-1]["accuracy"] + 0.1  # else nothing was left to learn
    assert abs(rows[-1]["accuracy"] - local[-1]["accuracy"]) <= 0.01, (base, rows, local)


@pytest.mark.parametrize("what", ["ten_rounds", "killed", "without_torch"])
def test_a_federation_of_processes(tmp_path, what):
    alone(tmp_path, what)
