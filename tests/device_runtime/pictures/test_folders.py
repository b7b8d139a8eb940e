"""The scanner against a naive description of its rules, on random trees; nothing is left out untold."""

import os
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.pictures.folders import pictures_below, scan
from fedgate.device_runtime.text import name_some

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
SPLITS = {"train": "train", "test": "test", "val": "validation", "valid": "validation", "validation": "validation"}
# name of a file -> whether it is a picture, by the rules that people are told
FILES = {
    **dict.fromkeys(
        ["a.png", "b.JPG", "c.Png", "test 5.jpeg", "train.gif", "d[1].webp", "bare", "e.tif", "odd.xyz"], True
    ),
    **dict.fromkeys(["a.txt", "a.json", "labels.csv", "Thumbs.db", "film.mp4", "raw.dng", "icon.svg", "page"], False),
    **dict.fromkeys([".hidden.png", "._a.png", ".DS_Store"], False),
}
CONTENT = {"bare": PNG, "odd.xyz": PNG, "raw.dng": b"II*\0" + bytes(40)}
FOLDERS = [
    "cat",
    "dog",
    "test tube",
    "caf\u00e9",
    "cafe\u0301",
    "train",
    "Train",
    "TEST",
    "val",
    "2023",
    "b[a-c]",
    ".git",
]
FOLDERS += ["__MACOSX", "\udce9t\udce9"]


def trees(depth=0):
    """name -> tree of a folder, a file's name, or where a link leads ("..", "none" or a neighbour)."""
    names = st.sampled_from(FOLDERS)
    files = st.dictionaries(st.sampled_from(sorted(FILES)), st.just("file"), max_size=3)
    links = st.dictionaries(
        st.sampled_from(["owl", "yak.png"]), st.sampled_from(["..", "none", "cat"]), max_size=depth < 2
    )
    if depth == 3:
        return files
    below = st.dictionaries(names, trees(depth + 1), max_size=4 - depth)
    return st.tuples(below, files, links).map(lambda parts: {**parts[2], **parts[1], **parts[0]})


def write(root, tree):
    root.mkdir()
    for name, what in tree.items():
        if isinstance(what, dict):
            write(root / name, what)
        elif what == "file":
            (root / name).write_bytes(CONTENT.get(name, b"x"))
        else:
            (root / name).symlink_to(what)


def hidden(name):
    return name.startswith(".") or name in ("__MACOSX", "@eaDir", "$RECYCLE.BIN")


def naive(root):
    """split -> class -> pictures, or None where the folder must be refused."""

    def below(folder, above=()):
        real = os.path.realpath(folder)
        if real in above:
            raise RecursionError
        found = []
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if os.path.isdir(path) and not hidden(name):
                found += below(path, (*above, real))
            elif os.path.isfile(path) and not hidden(name) and FILES[name]:
                found.append(os.path.relpath(path, root))
        return found

    def folders(top):
        return [n for n in os.listdir(top) if os.path.isdir(os.path.join(top, n)) and not hidden(n)]

    def classes(top):
        found = {}
        for name in folders(top):
            if pictures := below(os.path.join(top, name)):
                name = unicodedata.normalize("NFC", name).replace("\udce9", "\\udce9")
                found.setdefault(name, []).extend(pictures)
        return {name: sorted(found[name]) for name in found}

    try:
        top = folders(root)
        splits = [name for name in top if name.casefold() in SPLITS]
        kinds = [SPLITS[name.casefold()] for name in splits]
        if not splits:
            found = {"train": classes(root)}
        elif (
            len(set(kinds)) < len(kinds)
            or "train" not in kinds
            or any(below(os.path.join(root, name)) for name in top if name not in splits)
        ):
            return None
        else:
            found = {kind: classes(os.path.join(root, name)) for kind, name in zip(kinds, splits, strict=True)}
    except RecursionError:
        return None
    return None if None in found.values() else found


@settings(max_examples=1000, deadline=None)
@given(trees())
def test_a_thousand_trees(tree):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "d"
        write(root, tree)
        want = naive(str(root))
        if want is None:
            with pytest.raises(FedgateError) as caught:
                scan(root)
            assert len(str(caught.value).splitlines()) == 1
            return
        found = scan(root)
        assert found.classes == want
        assert all(list(classes) == sorted(classes) for classes in found.classes.values())
        used = {path for classes in found.classes.values() for paths in classes.values() for path in paths}
        told = {path for paths in found.left_out.values() for path in paths}
        assert not used & told
        for path in everything(str(root)):  # each is used, or told, or lies in a folder that is told
            parts = path.split("/")
            assert path in used or any("/".join(parts[:i]) in told for i in range(1, len(parts) + 1)), path


def everything(root, top=""):
    """All that is no folder, and hidden folders, as paths relative to the root; links are followed."""
    for name in os.listdir(os.path.join(root, top)):
        path = f"{top}/{name}" if top else name
        if os.path.isdir(os.path.join(root, path)):
            yield from everything(root, path) if not hidden(name) else [path]
        else:
            yield path


def photos(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(PNG)


def test_what_is_told(tmp_path):
    photos(tmp_path, "cat/1.png", "cat/2023/may/2.png", "dog/3.Png", "stray.png")
    for i in range(12):
        (tmp_path / "cat" / f"{i:02}.txt").write_text("a caption")
    (tmp_path / "owl").mkdir()
    (tmp_path / "dog" / "gone.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    tree = scan(tmp_path)
    assert tree.classes == {"train": {"cat": ["cat/1.png", "cat/2023/may/2.png"], "dog": ["dog/3.Png"]}}
    assert tree.loose == {"train": ["stray.png"]}
    captions = ", ".join(f"cat/{i:02}.txt" for i in range(10))
    assert set(tree.notes()) == {
        f"left out, no pictures: {captions} and 2 more (12 in all)",
        "left out, links that lead nowhere: dog/gone.png",
        "left out, neither files nor folders: dog/pipe.png",
        "left out, classes without a picture: owl",
        "left out, outside any class: stray.png",
    }


def test_links_to_folders_and_files_are_followed(tmp_path):
    photos(tmp_path, "far/owl/1.png", "d/cat/2.png", "far/3.png")
    (tmp_path / "d" / "owl").symlink_to(tmp_path / "far" / "owl")
    (tmp_path / "d" / "cat" / "3.png").symlink_to(tmp_path / "far" / "3.png")
    assert scan(tmp_path / "d").classes["train"] == {"cat": ["cat/2.png", "cat/3.png"], "owl": ["owl/1.png"]}


def test_refusals(tmp_path):
    photos(tmp_path, "loop/cat/1.png", "two/Train/cat/1.png", "two/train/cat/1.png", "alone/Test/1.png")
    photos(tmp_path, "beside/train/cat/1.png", "beside/dog/1.png", "name/" + "x" * 201 + "/1.png", "val/train/a/1.png")
    photos(tmp_path, "val/val/a/1.png", "val/Validation/a/1.png")
    (tmp_path / "loop" / "cat" / "again").symlink_to("..")
    for name, reason in (
        ("loop", "loop/cat/again.* is a link back"),
        ("two", "'Train' and 'train' are both the train split"),
        ("alone", "'Test' could be a split or a class"),
        ("beside", "the class 'dog' lies beside 'train'"),
        ("name", r"the class folder 'xxxx.* has a name of more than 200 letters"),
        ("val", "are both the validation split"),
    ):
        with pytest.raises(FedgateError, match=reason):
            scan(tmp_path / name)


def test_endless_trees_end(tmp_path, monkeypatch):
    monkeypatch.setattr("fedgate.device_runtime.pictures.folders.MOST_ENTRIES", 500)
    for i in range(20):  # each folder holds the next one twice: a million paths
        (tmp_path / f"f{i}").mkdir()
        for name in ("a", "b"):
            (tmp_path / f"f{i}" / name).symlink_to(f"../f{i + 1}")
    (tmp_path / "f20").mkdir()
    with pytest.raises(FedgateError, match="holds more than 500 files and folders, links followed"):
        scan(tmp_path / "f0")


def test_heic_is_told_with_what_to_install(tmp_path):
    photos(tmp_path, "cat/1.png")
    (tmp_path / "cat" / "2.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    (tmp_path / "cat" / "3.heic").write_bytes(b"\xff\xd8\xff\xe0" + bytes(60))  # JPEG, as phones hand them out
    tree = scan(tmp_path)
    if "left out, HEIC needs a plugin: pip install pillow-heif: cat/2.HEIC" in tree.notes():
        assert tree.classes["train"]["cat"] == ["cat/1.png", "cat/3.heic"]
    else:
        assert len(tree.classes["train"]["cat"]) == 3  # the plugin is installed here


def test_names_that_cannot_be_printed_are_escaped():
    assert name_some(["caf\udce9.png", "a\x1b[31m.png"]) == r"caf\udce9.png, a\x1b[31m.png"


def test_all_pictures_below(tmp_path):
    photos(tmp_path, "1.png", "train/2.png", "a/b/3.png")
    (tmp_path / "a" / "x.txt").write_text("x")
    found, tree = pictures_below(tmp_path)
    assert found == ["1.png", "a/b/3.png", "train/2.png"] and tree.notes() == ("left out, no pictures: a/x.txt",)
    with pytest.raises(UsageError):
        scan(tmp_path / "none") if (tmp_path / "none").exists() else scan(tmp_path)
