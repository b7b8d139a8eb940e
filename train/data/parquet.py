"""Which parquet files a folder holds, and of which split each is; what is in them `tables` reads."""

import re
from pathlib import Path

from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.pictures.folders import SPLITS

SHARD = re.compile(r"(\w+?)-\d{3,}-of-\d{3,}")  # of the hub: SPLIT-00000-of-00001.parquet


def parquet_files(folder: Path) -> list[Path]:
    """The parquet files below a folder, sorted; none in hidden folders."""
    found = folder.rglob("*.[pP][aA][rR][qQ][uU][eE][tT]")
    return sorted(p for p in found if p.is_file() and not any(part[0] == "." for part in p.relative_to(folder).parts))


def split_of(path: Path, folder: Path) -> str:
    """The split of a parquet file by the hub's custom: SPLIT-00000-of-00001, a name with one split's word in it, or a
    folder of that name; without any it is "train". Raises `UsageError` for two words in one name."""
    if shard := SHARD.match(path.stem):
        return SPLITS.get(shard[1].casefold(), shard[1])
    for part in (path.stem, *reversed(path.relative_to(folder).parent.parts)):
        words = {SPLITS[word] for word in re.split(r"[^a-z]+", part.casefold()) if word in SPLITS}
        if len(words) > 1:
            raise UsageError(f"{path} could be of the splits {' and '.join(sorted(words))}: rename it")
        if words:
            return words.pop()
    return "train"
