"""The bytes that metrics.jsonl tells are those of the blobs that went in and out of the clients, counted there."""

import json

import pytest

from fedgate.train.commands import run_training
from fedgate.train.engines.loop import Trainer

SMALL = {
    "clients": 10,
    "rounds": 3,
    "density_schedule": 0.0,
    "local_epochs": 1,
    "batch_size": 128,
    "partition": "classes:2",
    "density": (0.1,),
}
CASES = [
    {},
    {"upload_share": 0.9, "codec": "int8", "download_codec": "int8"},
    {"fraction_train": 0.6, "download_codec": "fp16"},  # some hold an older round's weights, some none
    {"upload": "full", "codec": "fp16", "download_codec": "int4"},
    {"gate": "none", "density": (1.0,), "download_codec": "fp16"},
]


@pytest.mark.parametrize("options", CASES)
def test_bytes_are_the_lengths_of_what_crossed(tmp_path, monkeypatch, options):
    crossed, train = [], Trainer.train

    def counted(self, client, download, *rest):
        result = train(self, client, download, *rest)
        crossed.append((client, len(bytes(download)), len(bytes(result.blob))))
        return result

    monkeypatch.setattr(Trainer, "train", counted)
    run_training(tmp_path / "run", None, quiet=True, options=SMALL | options)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = [(row["client"], row["bytes_down"], row["bytes_up"]) for row in rows if row["client"] is not None]
    each = round(10 * options.get("fraction_train", 1))
    assert told == crossed and len(told) == 3 * each
    for round_ in (1, 2, 3):
        some = crossed[each * (round_ - 1) : each * round_]
        (row,) = [row for row in rows if row["client"] is None and row["round"] == round_]
        assert (row["bytes_down"], row["bytes_up"]) == (sum(d for _, d, _ in some), sum(u for _, _, u in some))
    whole = options.get("gate") == "none" or options.get("upload") == "full"
    assert all((row["kept_share"] == 1) == whole for row in rows)  # two classes leave channels closed
