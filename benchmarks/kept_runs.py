"""Training runs that benchmarks start: kept below build/runs/ by their options, and taken up where they stopped."""

import contextlib
import hashlib
import json
from pathlib import Path

import click
from common import REPOSITORY
from result_file import json_option

from fedgate.device_runtime.errors import FedgateError
from fedgate.train.commands import run_training
from fedgate.train.config import TrainConfig
from fedgate.train.server.run_directory import RunDirectory

RUNS = REPOSITORY / "build" / "runs"


def protocol_options(seeds):
    """Add to a command the options of a federated training that it runs in several forms; seeds: the default ones."""
    options = (
        click.option("--data", default="digits", show_default=True, help="As in `fedgate train`."),
        click.option(
            "--train-images", type=click.IntRange(1), help="Only the first of them, of a folder of parquet files."
        ),
        click.option("--image-size", type=click.IntRange(1), help="Resize every image."),
        click.option("--model", help="By default resnet32, on digits cnn."),
        click.option("--clients", default=10, show_default=True),
        click.option("--partition", default="dirichlet:0.5", show_default=True),
        click.option("--rounds", default=25, show_default=True),
        click.option("--local-epochs", default=1, show_default=True),
        click.option("--lr", default=0.1, show_default=True),
        click.option("--batch-size", default=32, show_default=True),
        click.option("--seed", "seeds", multiple=True, type=int, default=seeds, show_default=True),
        click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes."),
        click.option("--quick", is_flag=True, help="The digits, 6 rounds, one seed."),
        json_option,
    )

    def add(command):
        for option in reversed(options):
            command = option(command)
        return command

    return add


def named_data(data, count=None):
    """What `fedgate train --data` takes, and what to call it in a table: all of it, or `count` training images."""
    if data != "digits":
        data = str(Path(data).expanduser().absolute())
    name = Path(data).name
    return (data, name) if count is None else (subset(data, count), f"{name}, its first {count} training images")


def subset(data, count, tests=None):
    """A folder with the first `count` training images of a parquet folder, and its test set, or the first `tests`."""
    from datasets import load_dataset

    folder = RUNS / (f"{Path(data).name}-{count}" + ("" if tests is None else f"-{tests}"))
    if not folder.is_dir():
        aside = folder.with_name(f".{folder.name}")
        for split, first in (("train", count), ("test", tests)):
            rows = load_dataset("parquet", data_files=split_files(data, split), split="train")
            (aside / "data").mkdir(parents=True, exist_ok=True)
            rows = rows if first is None else rows.select(range(first))
            rows.to_parquet(str(aside / "data" / f"{split}-00000-of-00001.parquet"))
        aside.rename(folder)
    return str(folder)


def split_files(data, split):
    """The files of a split of a parquet folder."""
    files = sorted(str(path) for path in Path(data).rglob(f"{split}-*.parquet"))
    if not files:
        raise click.BadParameter(f"{data} has no {split}-*.parquet")
    return files


def count_images(data):
    """How many a parquet folder holds: (for training, for tests)."""
    from pyarrow import parquet

    counts = [[parquet.ParquetFile(path).metadata.num_rows for path in split_files(data, s)] for s in ("train", "test")]
    return tuple(map(sum, counts))


def place(config):
    """The folder of the run with a `TrainConfig`: the one that is there, else a new one that its options name.

    A run is also found when fedgate has got options since, which it then has at their defaults.
    """
    named = RUNS / hashlib.sha256(config.to_json().encode()).hexdigest()[:16]
    if not named.exists():
        for path in sorted(RUNS.glob("*/config.json")):
            with contextlib.suppress(FedgateError):  # of another version, or no run at all
                if RunDirectory.open(path.parent).info.config == config:
                    return path.parent
    return named


def train(config, workers):
    """Train a `TrainConfig` in its folder, or take up what is there: the rounds' rows."""
    path = place(config)
    if not (path / "model.safetensors").exists():
        options = {name: getattr(config, name) for name in TrainConfig.__dataclass_fields__}
        if path.exists():
            run_training(None, path, workers, quiet=True)
        else:
            run_training(path, None, workers, quiet=True, options=options)
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["client"] is None]
