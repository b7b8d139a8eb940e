"""What the app's screens do without a screen: tasks that outlive them, bundles that are brought, pictures of a tree."""

import json
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from fedgate.device_runtime.formats.manifest import render_manifest
from fedgate.device_runtime.images import load_pixels
from fedgate.device_runtime.tuning.examples import load_examples

PARTS = "org.fedgate.harness.AppParts"


@pytest.fixture
def parts(harness):
    return lambda *arguments: json.loads(harness.run(PARTS, *map(str, arguments)))


def test_a_task_tells_its_newest_note_outlives_its_screen_and_ends_in_words(parts):
    assert parts("task") == [
        *("idle", "notes", "running null", "running 1000", "done: end"),
        *("next screen", "next done: end"),
        *("refused", "next running null", "next failed: no such file"),
        *("broken", "next running null", "next failed: java.lang.IllegalStateException: oh"),
        *("large", "next running null", "next failed: there is not enough memory"),
        *("cancelled", "next running null", "next running null, stopping", "next failed: stopped"),
        *(
            "overtaken",
            "next running null",
            "next running null, stopping",
            "next running null",
            "next done: the second",
        ),
        *("unwatched", "done: unseen"),
    ]


def test_cores_without_the_atomics_of_armv8_1_are_known_by_what_linux_tells(parts, tmp_path):
    old = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid\n"  # a Cortex-A72
    new = "processor\t: 4\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid\n"
    place = tmp_path / "cpuinfo"
    for abi, text, lacks in (
        ("arm64-v8a", old, True),
        ("arm64-v8a", new, False),
        ("arm64-v8a", new + old, True),  # one kind of core is enough to crash
        ("arm64-v8a", "processor : 0\n", False),
        ("x86_64", old, False),
    ):
        place.write_text(text)
        assert parts("cores", abi, place) is lacks


def test_bundles_are_found_in_assets_on_shared_storage_and_where_they_were_brought(parts, bundle, tmp_path):
    own, shared = tmp_path / "own", tmp_path / "shared"
    shutil.copytree(bundle.path, tmp_path / "bundles" / "packed.fedgate")
    shutil.copytree(bundle.path, shared / "bundle-0123")
    shutil.copytree(bundle.path, shared / "part-bundle-4567")  # still being copied
    (shared / "out-89").mkdir()
    brought = parts("bring", bundle.path, own)
    assert brought == {"name": bundle.path.name, "digest": bundle.manifest.digest, "first": 0.0}
    found = dict(parts("list", tmp_path, own, shared))
    assert found == {
        "bundle-0123": f"{shared}/bundle-0123",
        bundle.path.name: f"{own}/bundles/{bundle.path.name}",
        "packed.fedgate": f"{own}/assets/packed.fedgate",
    }
    models, copied_once = parts("unpack", tmp_path, tmp_path / "fresh")
    assert models == [bundle.manifest.model] and copied_once


def test_what_is_brought_is_there_whole_or_not_at_all(parts, bundle, tmp_path):
    own, bad = tmp_path / "own", tmp_path / "bad.fedgate"

    def refused(*arguments):
        said = parts("bring", bad, own, *arguments)
        assert isinstance(said, str) and list(own.rglob("*.*")) == []
        return said

    bad.mkdir()
    assert refused() == "bad.fedgate is not a bundle: it has no manifest.json"
    shutil.copytree(bundle.path, bad, dirs_exist_ok=True)
    assert refused(2) == "stopped"
    program = bad / bundle.manifest.programs[0].file
    content = program.read_bytes()
    program.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "was changed after it was written: its SHA-256 does not match" in refused()
    program.write_bytes(content + b"x")
    assert refused() == f"{program.name} is larger than its manifest says"
    program.unlink()
    assert refused() == f"bad.fedgate has no {program.name}, which its manifest names"
    fields = json.loads((bad / "manifest.json").read_text())
    fields["programs"][0]["bytes"] = 2**40
    (bad / "manifest.json").write_bytes(render_manifest(fields))
    assert refused().startswith("no space for bad.fedgate: it has ")
    (bad / "manifest.json").write_text("{")
    assert "manifest.json" in refused()


def test_the_pictures_of_a_tree_are_those_of_the_command_line(parts, bundle, tmp_path):
    data, work = tmp_path / "photos", tmp_path / "work"
    work.mkdir()
    rng = np.random.default_rng(0)
    for name in ("1/b.png", "1/a.png", "0/ü.png"):
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (13, 13, 3), np.uint8)).save(path)
    (data / "0" / ".hidden").touch()
    (data / "notes.txt").touch()
    examples = load_examples(data, bundle.manifest)
    assert parts("pictures", bundle.path, data, work) == {
        "names": list(examples.names),
        "labels": examples.labels.tolist(),
        "digest": examples.digest,
        "left out": list(examples.left_out),
        "pixels": load_pixels(data / "0" / "ü.png", bundle.manifest).flatten().tolist(),
        "left": [],
        "kept": True,
        "anew": True,
        "client": 5,
        "no numbers": True,
        "key": [8, "run"],
        "no key": "this is no key of a client: fedgate key RUN --client N makes one",
    }
    (data / "zebra").mkdir()
    shutil.copy(data / "1" / "a.png", data / "zebra")
    assert "unknown class of photos 'zebra'; known: 0, 1, 2" in parts("pictures", bundle.path, data, work)
    shutil.rmtree(data)
    data.mkdir()
    (data / "top.txt").touch()
    said = "photos holds no images by class; left out, no pictures: top.txt: looked for as photos/CLASS/IMAGE"
    assert parts("pictures", bundle.path, data, work) == said


def test_labels_are_compared_with_folders_in_nfc(parts, bundle, tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for label, folder in ((composed, decomposed), (decomposed, composed)):
        top = tmp_path / str(len(list(tmp_path.iterdir())))
        copy = shutil.copytree(bundle.path, top / "it.fedgate")
        fields = json.loads((copy / "manifest.json").read_text())
        fields["labels"][2] = label
        (copy / "manifest.json").write_bytes(render_manifest(fields))
        (top / "photos" / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(top / "photos" / folder / "a.png")
        found = parts("pictures", copy, top / "photos", top)
        assert found["labels"] == [2] and found["names"] == [f"{folder}/a.png"]
