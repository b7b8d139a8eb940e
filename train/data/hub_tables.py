"""The tables of a data set by split: from a folder of parquet files, or from the Hugging Face hub."""

import contextlib
from pathlib import Path
from typing import NamedTuple

import datasets
import huggingface_hub
import pyarrow
import pyarrow.parquet
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.pictures.folders import SPLITS

from .parquet import split_of
from .source import KNOWN


class Tables(NamedTuple):
    """A table for each split, and what its columns hold."""

    name: str
    splits: dict[str, pyarrow.Table]
    features_by_split: dict[str, datasets.Features]

    @property
    def features(self) -> datasets.Features:
        return self.features_by_split["train"]


def read_parquet(folder: Path, files: list[Path]) -> Tables:
    """The tables of a folder's parquet files. Raises `FedgateError` for damaged files and for several data sets."""
    by_split: dict[str, list[Path]] = {}
    for path in files:
        by_split.setdefault(split_of(path, folder), []).append(path)
    splits = {split: _table(paths, folder) for split, paths in by_split.items()}
    try:
        features = {split: datasets.Features.from_arrow_schema(table.schema) for split, table in splits.items()}
    except Exception as error:  # what the files say of their columns may be anything
        raise FedgateError(f"cannot read the columns of '{folder}': {' '.join(str(error).split())}") from error
    return Tables(str(folder), splits, features)


def _table(paths: list[Path], folder: Path) -> pyarrow.Table:
    tables = []
    for path in paths:
        try:
            tables.append(_plain(pyarrow.parquet.ParquetFile(path).read()))
        except (OSError, pyarrow.ArrowException) as error:
            raise FedgateError(f"cannot read '{path}': {' '.join(str(error).split())}") from error
        if tables[-1].schema.names != tables[0].schema.names:
            raise FedgateError(
                f"'{folder}' holds more than one data set: {paths[0]} and {path} have different columns; give the "
                "folder of one"
            )
    try:
        return pyarrow.concat_tables(tables, promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise FedgateError(f"the files of '{folder}' do not fit together: {' '.join(str(error).split())}") from error


def _plain(table: pyarrow.Table) -> pyarrow.Table:
    """Columns that are written as numbers into a list of values, as pandas does with categories, hold the values."""
    for i, field in enumerate(table.schema):
        if pyarrow.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table[field.name].cast(field.type.value_type))
    return table


def read_hub(name: str) -> Tables:
    """A data set of the hub by its name 'owner/name', from the hub or from the library's cache."""
    with _quiet():
        _check_hub(name)
        try:
            splits = datasets.load_dataset(name)
        except Exception as error:  # a reader for every format, each with errors of its own
            raise FedgateError(f"cannot read '{name}': {_reason(error)}") from error
        tables = {str(split): table.with_format("arrow")[:] for split, table in splits.items()}
    renamed = {SPLITS.get(split.casefold(), split): table for split, table in tables.items()}
    return Tables(name, renamed, {SPLITS.get(s.casefold(), s): splits[s].features for s in splits})


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, PermissionError | NotADirectoryError | FileNotFoundError | FileExistsError):
        cache = datasets.config.HF_DATASETS_CACHE
        return f"{' '.join(str(error).split())}; the library's cache is {cache}: name another with HF_HOME"
    return " ".join(str(error).split())


def _check_hub(name: str) -> None:
    """Ask the hub once, for `load_dataset` would try for 23 seconds to reach it."""
    try:
        huggingface_hub.HfApi().dataset_info(name, timeout=10)
    except OfflineModeIsEnabled:  # then load_dataset uses what it has in its cache
        pass
    except HfHubHTTPError as error:
        raise UsageError(f"'{name}' is no folder, nor open on the Hugging Face hub; known: {KNOWN}") from error
    except Exception as error:  # the HTTP client's own, which changed with the hub library's versions
        raise FedgateError(
            f"'{name}' is neither a known name nor a folder, and the Hugging Face hub cannot be reached ({error}): "
            "check the path or the network; HF_HUB_OFFLINE=1 uses a copy that was loaded before"
        ) from error


@contextlib.contextmanager
def _quiet():
    """Silence the libraries' progress bars and logs, which repeat what an error says, and restore them after."""
    logs = (datasets.utils.logging, huggingface_hub.utils.logging)
    levels = [log.get_verbosity() for log in logs]
    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for log in logs:
        log.set_verbosity(log.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.set_verbosity(level)
        if had_bars:
            datasets.enable_progress_bars()
