"""From training to a personal model on a device: finetune on its own account, from a folder with hostile names."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fedgate.device_runtime.formats.bundle import load_bundle
from fedgate.device_runtime.formats.signed import derive_key
from fedgate.device_runtime.storage import write_file

NAME = "-pics $(touch x) '\n\""


def here(*arguments):
    done = subprocess.run([sys.executable, "-m", "fedgate", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_finetune_and_verify_there(fedgate, device, need_kernel, tmp_path):
    need_kernel()
    pixels = np.random.default_rng(0)
    for number in range(40):
        folder = tmp_path / NAME / str(number % 4)
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels.integers(0, 256, (8, 8), np.uint8))
        image.save(folder / f"a b;$(touch x)'{number}\n.png")
    small = ("--clients", "4", "--rounds", "1", "--local-epochs", "1", "--quiet")
    here("train", *small, "--density", "0.5", "--out", tmp_path / "run")
    bundle = tmp_path / "tunable.fedgate"
    here("export", tmp_path / "run", "--to", "litert", "--trainable", "head", "--out", bundle)
    key = derive_key(bytes(32), load_bundle(bundle).tail().spec.run, 5)
    write_file(tmp_path / "my.key", key.text().encode(), 0o600)
    words = ("--out", "mine", "--epochs", 2, "--key", "my.key")
    status, out, err = fedgate("finetune", bundle, "--data", f"./{NAME}", *words)
    assert (status, err) == (0, "") and "mine/personal.safetensors: the model" in out
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        *("personal.safetensors", "update-client-5.safetensors")
    ]
    assert key.has_signed((tmp_path / "mine/update-client-5.safetensors").read_bytes())
    found = [
        path for path in device.home.rglob("*") if path.is_file() and key.secret.hex().encode() in path.read_bytes()
    ]
    assert found == []  # it signs here
    assert not [name for name in device.copies() if name.startswith("out-")]
    status, out, err = fedgate("verify", bundle, "--personal", "mine/personal.safetensors")
    assert (status, err) == (0, "") and out.count(" ok ") == 2
    status, out, err = fedgate("verify", bundle, "--runtime", "litert")  # with the kernel that was built here
    assert (status, err) == (0, "") and "litert-skip.tflite" in out and "mismatch" not in out and "skipped" not in out
    assert not list(tmp_path.rglob("x")) and not list(device.home.rglob("x"))
    status, _, err = fedgate("finetune", bundle, "--data", f"./{NAME}", "--out", "mine")
    assert status == 2 and "mine exists: choose another --out" in err
