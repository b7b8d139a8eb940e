"""What a client tells of its held-out images: how many fell into which bins of scores, and which stages were right.

A table of counts for K stages has a cell for the bins of the first K - 1 stages' scores and for which of the K stages
were right: index = (bin_1 * BINS + bin_2 ...) * 2^K + sum of 2^k over the stages k that were right. Sent are the cells
that are not 0. Tables of several clients add up to the one that all their images together give, count by count, so the
server picks the same thresholds from either and sees no image.
"""

from collections.abc import Sequence

import numpy as np

from ..errors import FedgateError
from ..formats.checks import Fields
from ..formats.tensors import pack, unpack
from ..formats.update import MOST, MOST_HEADER
from .scores import BINS, bins, scores

FORMAT, VERSION = "fedgate-calibration", 1
MOST_STAGES = 3


def cells(stages: int) -> int:
    """How many cells a table has."""
    return BINS ** (stages - 1) * 2**stages


def count(logits: Sequence[np.ndarray], labels: np.ndarray, kind: str = "probability") -> dict[int, int]:
    """The cells that are not 0 of the images that gave these logits, (n, classes) by stage; labels: int (n,)."""
    place = np.zeros(len(labels), np.int64)
    for each in logits[:-1]:
        place = place * BINS + bins(scores(each, kind))
    place = place << len(logits)
    for k, each in enumerate(logits):
        place += (np.asarray(each).argmax(1) == labels).astype(np.int64) << k
    index, number = np.unique(place, return_counts=True)
    return dict(zip(index.tolist(), number.tolist(), strict=True))


def add(tables: Sequence[dict[int, int]]) -> dict[int, int]:
    """Of several clients, all their images' table."""
    found = {}
    for table in tables:
        for index, number in table.items():
            found[index] = found.get(index, 0) + number
    return found


def encode(table: dict[int, int], stages: int, kind: str, cascade: str, client: int) -> bytes:
    """What a client sends. cascade: a hash of the stages that it ran."""
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "stages": stages,
        "bins": BINS,
        "score": kind,
        "cascade": cascade,
        "client": client,
        "images": sum(table.values()),
    }
    index = np.array(sorted(table), np.uint32)
    return pack({"index": index, "count": np.array([table[i] for i in index.tolist()], np.uint32)}, meta)


def decode(blob: bytes, stages: int, kind: str, cascade: str, most_images: int | None = None) -> tuple[int, dict]:
    """(client, table) of what a client sent. Raises `FedgateError` with the reason why it is refused.

    most_images: as many as the client can have held out, where that is known.
    """
    where = "the calibration counts"
    arrays, meta = unpack(blob, where, MOST_HEADER)
    fields = Fields(meta, where)
    wanted = {"format": FORMAT, "version": VERSION, "stages": stages, "bins": BINS, "score": kind, "cascade": cascade}
    for key, value in wanted.items():
        if fields.get(key) != value or isinstance(fields.get(key), bool):
            fields.refuse(key, repr(value))
    client, images = fields.whole("client", 0, MOST), fields.whole("images", 0, MOST)
    if arrays.keys() != {"index", "count"} or any(a.dtype != np.uint32 or a.ndim != 1 for a in arrays.values()):
        raise FedgateError(f"{where} are not two lists of uint32, 'index' and 'count'")
    index, number = arrays["index"].astype(np.int64), arrays["count"].astype(np.int64)
    if len(index) != len(number) or (np.diff(index) <= 0).any() or (len(index) and index[-1] >= cells(stages)):
        raise FedgateError(f"{where}: 'index' must list cells below {cells(stages)}, each once and in order")
    if (number < 1).any() or number.sum() != images:
        raise FedgateError(f"{where} are of {number.sum()} images, each cell of one or more, and not of {images}")
    if most_images is not None and images > most_images:
        raise FedgateError(f"{where} are of {images} images, and the client holds out {most_images}")
    return client, dict(zip(index.tolist(), number.tolist(), strict=True))
