"""What a folder of pictures holds: the one scanner of training and of devices.

    DIR/CLASS/.../PICTURE          the first folder below DIR is the class; deeper ones belong to it
    DIR/SPLIT/CLASS/.../PICTURE    where a top folder is called train; also test, val, valid, validation (in any case)

Nothing else is read from a name. Links are followed, class names are compared in Unicode's NFC, and all that is left
out is kept with its reason.
"""

import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import FedgateError, UsageError
from ..text import name_some, printable
from .formats import missing_plugin, picture_format

SPLITS = {"train": "train", "test": "test", "val": "validation", "valid": "validation", "validation": "validation"}
SYSTEM = {"__MACOSX", "@eaDir", "$RECYCLE.BIN"}  # copies and thumbnails that systems put beside pictures
MOST_ENTRIES = 2_000_000  # links can make a small tree endless

HIDDEN = "hidden, or a system's own"
NO_PICTURE = "no pictures"
NOWHERE = "links that lead nowhere"
NO_FILE = "neither files nor folders"
NO_CLASS = "outside any class"
EMPTY = "classes without a picture"


@dataclass
class Tree:
    """What `scan` found. Paths are relative to `root`, with "/".

    classes: split -> class -> its pictures, sorted; of a folder without splits the one split is "train". loose: split
    -> pictures that lie in no class, which are among what is left out. left_out: reason -> paths.
    """

    root: Path
    classes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    loose: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, reason: str, path: str) -> None:
        self.left_out.setdefault(reason, []).append(path)

    def notes(self) -> tuple[str, ...]:
        """One line for each reason: how many are left out, and the first of them by name."""
        return tuple(left_out_note(reason, paths) for reason, paths in self.left_out.items())


def left_out_note(reason: str, paths: list[str]) -> str:
    """The line that tells of files or folders that are not used."""
    return f"left out, {reason}: {name_some(paths)}"


def scan(root: Path) -> Tree:
    """Look through a folder of pictures by class; only files with odd names are opened.

    Raises `UsageError` for top folders that could be splits or classes, `FedgateError` for links that lead back and for
    folders that cannot be read.
    """
    tree = Tree(Path(root))
    walker = _Walker(tree)
    splits = _splits(walker)
    for split, top in splits.items():
        walker.classes(split, top)
    return tree


def pictures_below(root: Path) -> tuple[list[str], Tree]:
    """All pictures of a folder, at any depth, as paths relative to it; and a tree that tells what is left out."""
    tree = Tree(Path(root))
    return sorted(_Walker(tree).pictures("")), tree


def _splits(walker: "_Walker") -> dict[str, str]:
    """Split -> its folder, relative to the root; {"train": ""} where the top folders are classes."""
    root = walker.tree.root
    folders = [name for name, kind in walker.entries("") if kind == "folder" and not is_hidden(name)]
    found = {}
    for name in folders:
        split = SPLITS.get(name.casefold())
        if split is not None and split in found:
            raise UsageError(f"{root}: '{found[split]}' and '{name}' are both the {split} split: make them one folder")
        if split is not None:
            found[split] = name
    if not found:
        return {"train": ""}
    if "train" not in found:
        name = next(iter(found.values()))
        raise UsageError(f"{root}: '{name}' could be a split or a class: put a folder 'train' beside it, or rename it")
    others = [name for name in folders if name not in found.values()]
    for name in others:
        if walker.pictures(name):
            raise UsageError(
                f"{root}: the class '{name}' lies beside '{found['train']}': move it into that split, or rename "
                "the folder, as none of the classes may be called train, test, val, valid or validation"
            )
        walker.tree.leave_out(EMPTY, name)
    for name, kind in walker.entries(""):
        if kind != "folder" or is_hidden(name):
            walker.file("train", name, name, kind)
    return found


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name in SYSTEM


def class_name(root: Path, folder: str) -> str:
    """A folder's name as a class, as a manifest can hold it: what cannot be printed is escaped."""
    name = printable(unicodedata.normalize("NFC", folder))
    if len(name) > 200:
        raise UsageError(f"{root}: the class folder '{name[:40]}...' has a name of more than 200 letters: rename it")
    return name


class _Walker:
    """Reads folders, counts what it has read, and notes in a tree what is left out."""

    def __init__(self, tree: Tree):
        self.tree, self.seen = tree, 0

    def classes(self, split: str, top: str) -> None:
        """Read a split's folder: each folder in it is a class."""
        found: dict[str, list[str]] = {}
        self.tree.loose.setdefault(split, [])
        for name, kind in self.entries(top):
            path = f"{top}/{name}" if top else name
            if kind != "folder" or is_hidden(name):
                self.file(split, name, path, kind)
            elif pictures := self.pictures(path):
                found.setdefault(class_name(self.tree.root, name), []).extend(pictures)
            else:
                self.tree.leave_out(EMPTY, path)
        self.tree.classes[split] = {name: sorted(found[name]) for name in sorted(found)}

    def file(self, split: str, name: str, path: str, kind: str) -> None:
        """Leave out what lies beside class folders; pictures are kept as loose ones."""
        if self.is_picture(name, path, kind):
            self.tree.loose.setdefault(split, []).append(path)
            self.tree.leave_out(NO_CLASS, path)

    def pictures(self, top: str) -> list[str]:
        """The pictures below a folder, at any depth."""
        found, waiting = [], [(top, ())]
        while waiting:
            folder, above = waiting.pop()
            above = (*above, self.identity(folder))
            if above[-1] in above[:-1]:
                where = self.tree.root / folder
                raise FedgateError(f"{where} is a link back to a folder that it lies in: remove it")
            for name, kind in self.entries(folder):
                path = f"{folder}/{name}" if folder else name
                if kind == "folder" and not is_hidden(name):
                    waiting.append((path, above))
                elif self.is_picture(name, path, kind):
                    found.append(path)
        return found

    def is_picture(self, name: str, path: str, kind: str) -> bool:
        """Whether an entry is a picture that can be decoded here; if not, it is noted with its reason."""
        if is_hidden(name):
            reason = HIDDEN
        elif kind != "file":
            reason = kind
        else:
            format_ = picture_format(self.tree.root / path)
            reason = NO_PICTURE if format_ is None else missing_plugin(format_)
        if reason is not None:
            self.tree.leave_out(reason, path)
        return reason is None

    def entries(self, folder: str) -> Iterator[tuple[str, str]]:
        """The entries of a folder, sorted by name: (name, "file" or "folder" or why it is neither)."""
        try:
            names = sorted(os.listdir(self.tree.root / folder))
        except OSError as error:
            raise FedgateError(f"cannot read {self.tree.root / folder}: {error.strerror or error}") from error
        self.seen += len(names)
        if self.seen > MOST_ENTRIES:
            raise FedgateError(f"{self.tree.root} holds more than {MOST_ENTRIES:,} files and folders, links followed")
        for name in names:
            yield name, self.kind(self.tree.root / folder / name)

    def kind(self, path: Path) -> str:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return NOWHERE
        except OSError as error:
            if path.is_symlink():  # to itself, most often
                return NOWHERE
            raise FedgateError(f"cannot read {path}: {error.strerror or error}") from error
        return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else NO_FILE

    def identity(self, folder: str) -> tuple[int, int]:
        status = (self.tree.root / folder).stat()
        return status.st_dev, status.st_ino
