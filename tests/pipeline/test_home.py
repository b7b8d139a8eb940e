"""A home that cannot be written, as services and containers have: data in folders need no cache there."""

import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image
from processes import COMMAND, ENVIRONMENT

CACHES = ("HF_HOME", "HF_DATASETS_CACHE", "XDG_CACHE_HOME")


def test_folders_and_tables_are_read_without_a_home(tmp_path):
    rng = np.random.default_rng(0)
    files = []
    for i in range(20):
        files.append(tmp_path / "pictures" / ("cat", "dog")[i % 2] / f"{i}.png")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(files[-1])
    (tmp_path / "table").mkdir()
    table = pa.table({"image": [file.read_bytes() for file in files], "label": [file.parent.name for file in files]})
    pa.parquet.write_table(table, tmp_path / "table" / "train.parquet")
    home = {name: value for name, value in ENVIRONMENT.items() if name not in CACHES} | {"HOME": "/dev/null/none"}
    for kind in ("pictures", "table"):
        options = ["--rounds", "1", "--clients", "2", "--local-epochs", "1", "--partition", "iid", "--quiet"]
        words = ["train", "--data", tmp_path / kind, *options, "--out", tmp_path / f"run-{kind}"]
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, env=home, timeout=300)
        assert done.returncode == 0, done.stderr
