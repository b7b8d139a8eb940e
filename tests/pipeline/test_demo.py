"""`fedgate demo` as a newcomer runs it: no network, one table with every runtime and role."""

import re
import shutil
import subprocess

import pytest
from processes import COMMAND, ENVIRONMENT

from fedgate.demo import own_data
from fedgate.device_runtime.kernels.build import why_not_buildable

DEAD = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


def test_own_pictures_are_resized_and_cifar_is_not(tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").touch()
    assert own_data("digits") == [] and "--image-size" in own_data(str(tmp_path))
    assert "--image-size" not in own_data(str(tmp_path / "cifar-10-binary.tar.gz"))


@pytest.mark.slow
def test_demo_without_a_network(tmp_path):
    out = tmp_path / "demo"
    command = [*COMMAND, "demo", "--out", str(out)]
    if shutil.which("unshare") and subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0:
        command = ["unshare", "-n", *command]
    environment = {**ENVIRONMENT, **DEAD, "COLUMNS": "120"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=580)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    cells = [re.findall(r"[^\s│]+(?: %)?", line) for line in done.stdout.splitlines()]
    table = {
        (row[0], row[1]): float(row[2].removesuffix(" %")) for row in cells if len(row) > 2 and row[2].endswith(" %")
    }
    roles = {(runtime, role) for runtime in ("executorch", "litert", "onnx") for role in ("dense", "masked", "static")}
    if why_not_buildable() is None:
        roles |= {(runtime, "skip") for runtime in ("executorch", "litert", "onnx")}
    assert set(table) == roles
    assert all(accuracy >= 95 for (_, role), accuracy in table.items() if role == "masked")
    assert {path.name for path in out.iterdir()} == {"gated", "dense", "digits.fedgate"}
    again = subprocess.run([*command[:-1], str(tmp_path)], capture_output=True, text=True, env=environment, timeout=60)
    assert again.returncode == 2 and "holds other files than an earlier demo's" in again.stderr
