"""Files and bundles while they are written: whole or not there, and nothing stays of killed processes."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny_bundle

from fedgate.device_runtime.formats.bundle import load_bundle, write_bundle
from fedgate.device_runtime.storage import scratch_folder, write_file


def killed(path, *bundle):
    """What was at `path` after each kill of a write to it; see killed_writes.py."""
    script = Path(__file__).with_name("killed_writes.py")
    done = subprocess.run([sys.executable, script, path, *bundle], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_file_is_the_old_or_the_new_one_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.b"
    mine = {".a.b.swp": b"an editor's", ".a.bc.1234.part": b"another file's", "a.b.part": b""}
    write_file(path, b"old")
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    found = killed(path)
    assert len(found) > 3 and found == sorted(found, reverse=True) and set(found) == {"old", "new"}
    write_file(path, b"last")
    assert path.read_bytes() == b"last" and set(os.listdir(tmp_path)) == {"a.b", *mine}


@pytest.mark.parametrize("old", [True, False])
def test_a_bundle_is_there_at_every_instant_and_leaves_nothing(bundle, tmp_path, old):
    target = tmp_path / "b.fedgate"
    fields = tiny_bundle.raw_fields(bundle)
    files = {path.name: path for path in bundle.path.iterdir() if path.name != "manifest.json"}
    if old:
        write_bundle(target, fields | {"model": "old"}, files)
    found = killed(target, bundle.path)
    assert len(found) > 10 and set(found) == {"old" if old else None, "tiny"}
    write_bundle(target, fields, files, overwrite=True)
    assert load_bundle(target).manifest.model == "tiny" and os.listdir(tmp_path) == ["b.fedgate"]


def test_what_a_living_process_works_on_is_left_to_it(tmp_path):
    begun, done = threading.Event(), threading.Event()
    kept = []

    def first():
        with scratch_folder(tmp_path, "a") as folder:
            begun.set()
            assert done.wait(30)
            kept.append(folder.is_dir())

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(30)
    write_file(tmp_path / "a", b"")
    with scratch_folder(tmp_path, "a"):
        assert len(list(tmp_path.iterdir())) == 3
    done.set()
    thread.join()
    assert kept == [True] and os.listdir(tmp_path) == ["a"]


def test_a_link_to_elsewhere_is_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("")
    os.mkfifo(tmp_path / ".a.pipe.part")
    (tmp_path / ".a.link.part").symlink_to(tmp_path / "precious")
    write_file(tmp_path / "a", b"")
    assert (tmp_path / "precious" / "file").exists()
