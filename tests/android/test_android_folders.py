"""What the app's core finds in a folder of pictures by class, and what it says of all that it leaves out."""

import json
import os
import random
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image
from ways import EVERY_WAY

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.pictures.folders import scan
from fedgate.device_runtime.pictures.formats import readable

DECODED = ["JPEG", "PNG", "GIF", "BMP"]


@pytest.fixture
def made(tmp_path):
    """A function: paths -> the folder `photos` with pictures there; those that end in "/" become empty folders."""
    root = tmp_path / "photos"

    def make(*paths):
        for path in paths:
            place = root / path
            (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
            if not path.endswith("/"):
                Image.fromarray(np.zeros((2, 2), np.uint8)).save(place, "PNG")
        return root

    return make


@pytest.fixture
def scanned(ask):
    """A function: a folder -> (class -> its pictures to learn from, notes), or why it is refused."""

    def scan(root):
        (found,) = ask([["scan", str(root), None, DECODED]])
        return found["refused"] if "refused" in found else (found["classes"]["train"], found["notes"])

    return scan


@EVERY_WAY
def test_pictures_belong_to_the_first_folder_however_deep_they_lie(made, scanned):
    root = made("cat/b.png", "cat/a.PNG", "cat/2024/may/z.jpeg", "cat/B.gif", "dog/x.bmp", "ant/deep/y.jpe")
    assert scanned(root) == (
        {
            "ant": ["ant/deep/y.jpe"],
            "cat": ["cat/2024/may/z.jpeg", "cat/B.gif", "cat/a.PNG", "cat/b.png"],
            "dog": ["dog/x.bmp"],
        },
        [],
    )


def test_files_sent_under_their_numbers_are_found_as_in_their_folder(ask, made, scanned, tmp_path):
    paths = ["cat/b.png", "dog/x/y/z.png", "cat/2024/a.png", "top.png", "train.txt/a.png", "cat/.hidden/q.png"]
    sent = tmp_path / "sent"
    sent.mkdir()
    root = made(*paths)
    for number, path in enumerate(paths):
        (sent / f"{number}").write_bytes((root / path).read_bytes())
    (found,) = ask([["scan", str(sent), paths, DECODED]])
    assert (found["classes"]["train"], found["notes"]) == scanned(root) and len(found["classes"]["train"]) == 3
    assert found["notes"] == [
        "left out, hidden, or a system's own: cat/.hidden",
        "left out, outside any class: top.png",
    ]


def test_all_that_is_left_out_is_counted_and_named_by_its_reason(made, scanned):
    root = made("cat/a.png", "top.png", ".hidden/x.png", "cat/.thumb.png", "__MACOSX/cat/a.png", "empty/", "deep/down/")
    (root / "cat" / "notes.txt").write_text("about cats")
    (root / "cat" / "BMW").write_text("BM is no picture either")
    (root / "readme").write_text("")
    (root / "raw").mkdir()
    (root / "raw" / "a.dng").write_bytes(b"II*\0" + bytes(60))
    (root / "cat" / "scan.tif").write_bytes(b"II*\0" + bytes(60))
    (root / "cat" / "iphone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (root / "cat" / "gone.png").symlink_to(root / "nothing")
    (root / "cat" / "self.png").symlink_to(root / "cat" / "self.png")
    os.mkfifo(root / "cat" / "pipe.png")
    for number in range(12):
        (root / "cat" / f"{number:02}.xml").touch()
    classes, notes = scanned(root)
    assert classes == {"cat": ["cat/a.png"]}
    assert set(notes) == {
        "left out, hidden, or a system's own: .hidden, __MACOSX, cat/.thumb.png",
        "left out, no pictures: " + ", ".join(f"cat/{n:02}.xml" for n in range(10)) + " and 6 more (16 in all)",
        "left out, TIFF cannot be decoded here: cat/scan.tif",
        "left out, HEIF cannot be decoded here: cat/iphone.heic",
        "left out, links that lead nowhere: cat/gone.png, cat/self.png",
        "left out, neither files nor folders: cat/pipe.png",
        "left out, outside any class: top.png",
        "left out, classes without a picture: deep, empty, raw",
    }


def test_first_bytes_tell_pictures_whose_names_do_not(made, scanned):
    root = made("cat/a.png", "cat/whatsapp", "cat/upload.tmp", "cat/photo.heic")
    starts = {
        "jpeg": b"\xff\xd8\xff\xe0" + bytes(60),
        "gif": b"GIF89a" + bytes(58),
        "bmp": b"BM" + bytes(12) + b"\x28\0\0\0" + bytes(46),
        "short.bin": b"\xff\xd8",
        "webp": b"RIFF\x20\0\0\0WEBPVP8 " + bytes(48),
        "avif": b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif" + bytes(36),
        "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(48),
        "film.mp4": b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(40),
    }
    for name, content in starts.items():
        (root / "cat" / name).write_bytes(content)
    (root / "cat" / "damaged.jpg").write_text("decoding says so")
    classes, notes = scanned(root)
    known = ["a.png", "bmp", "damaged.jpg", "gif", "jpeg", "photo.heic", "upload.tmp", "whatsapp"]
    assert classes == {"cat": [f"cat/{name}" for name in known]}
    assert notes == [
        "left out, AVIF cannot be decoded here: cat/avif",
        "left out, no pictures: cat/film.mp4, cat/short.bin",
        "left out, JPEG2000 cannot be decoded here: cat/jp2",
        "left out, WEBP cannot be decoded here: cat/webp",
    ]


def test_class_names_are_compared_in_nfc(made, scanned):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = made(f"{composed}/b.png", f"{decomposed}/a.png")
    (classes, notes) = scanned(root)
    assert classes == {composed: [f"{decomposed}/a.png", f"{composed}/b.png"]} and notes == []


def test_splits_are_told_apart(ask, made):
    made("Train/cat/deep/a.png", "Train/dog/b.png", "VAL/cat/c.png", "test/dog/d.png", "top.png", "docs/")
    root = made("Train/loose.png", "Train/empty/")
    (found,) = ask([["scan", str(root), None, DECODED]])
    assert found["classes"] == {
        "train": {"cat": ["Train/cat/deep/a.png"], "dog": ["Train/dog/b.png"]},
        "validation": {"cat": ["VAL/cat/c.png"]},
        "test": {"dog": ["test/dog/d.png"]},
    }
    assert found["notes"] == [
        "left out, classes without a picture: docs, Train/empty",
        "left out, outside any class: top.png, Train/loose.png",
    ]


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (
            ["test/a.png", "cat/b.png"],
            "'test' could be a split or a class: put a folder 'train' beside it, or rename it",
        ),
        (["Validation/cat/a.png"], "'Validation' could be a split or a class"),
        (["train/cat/a.png", "dog/b.png"], "the class 'dog' lies beside 'train': move it into that split, or rename"),
        (["train/a/a.png", "val/a/b.png", "valid/a/c.png"], "'val' and 'valid' are both the validation split"),
        ([f"{'x' * 201}/a.png"], f"the class folder '{'x' * 40}...' has a name of more than 200 letters: rename it"),
        (["train/cat/a.png", "TRAIN/cat/b.png"], "'TRAIN' and 'train' are both the train split"),
    ],
)
def test_folders_that_could_be_splits_or_classes_are_refused(made, scanned, paths, said):
    refused = scanned(made(*paths))
    assert said in refused and refused.startswith(f"{made()}: ") and "\n" not in refused


def test_names_of_classes_that_cannot_be_printed_are_escaped_alike(ask, made):
    root = made("a\nb/1.png", "\u0645\u06cc\u200c/1.png", "\x1b[31m/1.png", "\U000e0041/1.png", "e\u0301/1.png")
    (found,) = ask([["scan", str(root), None, DECODED]])
    assert found["classes"] == scan(root).classes


def test_links_are_followed_and_loops_refused(made, scanned, tmp_path):
    root = made("cat/a.png")
    (tmp_path / "elsewhere").mkdir()
    (root / "cat" / "a.png").rename(tmp_path / "elsewhere" / "b.png")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "c.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    assert scanned(root) == ({"cat": ["cat/c.png"], "dog": ["dog/b.png"]}, [])
    (root / "cat" / "more").mkdir()
    (root / "cat" / "more" / "up").symlink_to(root / "cat")
    assert scanned(root) == f"{root}/cat/more/up is a link back to a folder that it lies in: remove it"
    (root / "cat" / "more" / "up").unlink()
    (root / "dog").unlink()
    (root / "dog").symlink_to(root)
    assert "is a link back to a folder that it lies in: remove it" in scanned(root)


SPLITS = ["train", "Test", "val", "validation"]
FOLDERS = ["cat", "dog", ".hidden", "__MACOSX", "caf\u00e9", "cafe\u0301", "\uff21", "\U0001f431"]
FILES = ["a.png", "b.JPG", "c.tiff", "d.heic", "e.dng", "notes.txt", "no suffix", ".g.png", "h.webp", "z" * 99 + ".gif"]
CONTENTS = [b"", b"\xff\xd8\xff\xe0", b"RIFF\1\0\0\0WEBP", b"\0\0\0\x18ftypheic" + bytes(12), b"MM\0*" + bytes(99)]


def grow(draw, folder, depth, top):
    """A random folder: deeper ones, pictures and what is none, links to what is there, to nothing and back."""
    folder.mkdir()
    for name in draw.sample(FOLDERS, 4) if depth else ():
        grow(draw, folder / name, depth - draw.randint(1, depth), top)
    for name in draw.sample(FILES, draw.randint(0, 4)):
        if draw.random() < 0.02:
            (folder / name).symlink_to(draw.choice(["nowhere", "a.png", top / "cat", top]))
        else:
            (folder / name).write_bytes(draw.choice(CONTENTS))


def test_random_trees_are_read_as_python_reads_them(ask, tmp_path):
    draw, requests, expected = random.Random(6), [], []
    for number in range(150):
        root = tmp_path / str(number)
        if number % 3:
            grow(draw, root, 2, root)
        else:  # beside splits there are no classes, mostly
            if number % 9:
                root.mkdir()
            else:
                grow(draw, root, 1, root)
            for split in draw.sample(SPLITS, draw.randint(1, 3)):
                grow(draw, root / split, 2, root)
        requests.append(["scan", str(root), None, list(readable())])
        try:
            tree = scan(root)
            expected.append({"classes": tree.classes, "notes": list(tree.notes())})
        except FedgateError as error:
            expected.append({"refused": str(error), "status": error.exit_status})
    for words in ("back to a folder", "could be a split", "lies beside", "both the validation"):
        assert any(words in str(found.get("refused")) for found in expected), words
    assert sum(len(found.get("classes", {}).get("train", {})) > 1 for found in expected) > 50
    for request, answer, found in zip(requests, ask(requests), expected, strict=True):
        # what to install is Python's own reason
        notes = [re.sub("HEIC needs .*?-heif", "HEIF cannot be decoded here", note) for note in found.pop("notes", [])]
        assert answer.pop("notes", []) == notes and answer == found, request[1]


def test_the_headless_entry_tells_what_it_left_out(harness, client, tmp_path):
    files, sent = tmp_path / "files", tmp_path / "files" / "data-1"
    sent.mkdir(parents=True)
    (files / "bundle-1").symlink_to(client.bundle.path)
    photos = sorted(client.photos.rglob("*.png"))
    names = [path.relative_to(client.photos).as_posix() for path in photos]
    (sent / "index.json").write_text(json.dumps([*names, "notes.txt", names[0].replace("/", "/.")]))
    for number, path in enumerate([*photos, photos[0], photos[0]]):
        (sent / f"{number}").write_bytes(path.read_bytes())
    asked = {"version": 1, "command": "finetune", "bundle": "bundle-1", "out": "out-1"}
    asked["options"] = {"data": "data-1", "epochs": 1}
    (tmp_path / "request").write_text(json.dumps(asked))
    harness.run("org.fedgate.harness.Answer", tmp_path / "request", files)
    answer = json.loads((files / "out-1" / "result.json").read_text())
    assert answer["status"] == 0, answer["message"]
    assert answer["result"]["examples"] + answer["result"]["validation_examples"] == len(photos)
    hidden = names[0].replace("/", "/.")
    assert f"left out, hidden, or a system's own: {hidden}" in answer["result"]["left_out"]
