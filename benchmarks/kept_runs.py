"""Training runs that benchmarks start: kept below build/runs/ by their options, and taken up where they stopped."""

import hashlib
import json
from pathlib import Path

import click
from common import REPOSITORY
from result_file import json_option

from fedgate.train.config import TrainConfig
from fedgate.train.session import run_training

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


def subset(data, count):
    """A folder with the first `count` training images of a parquet folder, and its whole test set."""
    from datasets import load_dataset

    folder = RUNS / f"{Path(data).name}-{count}"
    if not folder.is_dir():
        aside = folder.with_name(f".{folder.name}")
        for split in ("train", "test"):
            files = sorted(str(path) for path in Path(data).rglob(f"{split}-*.parquet"))
            if not files:
                raise click.BadParameter(f"{data} has no {split}-*.parquet")
            rows = load_dataset("parquet", data_files=files, split="train")
            (aside / "data").mkdir(parents=True, exist_ok=True)
            rows = rows.select(range(count)) if split == "train" else rows
            rows.to_parquet(str(aside / "data" / f"{split}-00000-of-00001.parquet"))
        aside.rename(folder)
    return str(folder)


def train(config, workers):
    """Train a `TrainConfig` in a folder that its options name, or take up what is there: the rounds' rows."""
    path = RUNS / hashlib.sha256(config.to_json().encode()).hexdigest()[:16]
    if not (path / "model.safetensors").exists():
        options = {name: getattr(config, name) for name in TrainConfig.__dataclass_fields__}
        if path.exists():
            run_training(None, path, workers, quiet=True)
        else:
            run_training(path, None, workers, quiet=True, options=options)
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["client"] is None]
