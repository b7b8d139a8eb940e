"""The exact command lines for a phone, against a recorded `adb`; no phone was here."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = "/sdcard/Android/data/org.fedgate.demo/files"
FAKE = Path(__file__).with_name("fake_adb.py")


@pytest.fixture
def phone(tmp_path):
    """A folder that stands for the phone, with `adb` for PATH in bin."""
    root = tmp_path / "phone"
    (root / "bin").mkdir(parents=True)
    adb = root / "bin" / "adb"
    adb.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} {root} "$@"\n')
    adb.chmod(0o755)
    return root


@pytest.fixture
def fedgate(phone, tmp_path):
    def run(*arguments, target="adb:R58M"):
        command = [sys.executable, "-m", "fedgate", *map(str, arguments), "--target", target]
        environment = {**os.environ, "PATH": f"{phone}/bin:{os.environ['PATH']}"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
        return done.returncode, done.stdout, done.stderr

    return run


def test_bench_and_verify_by_command_lines(fedgate, phone, bundle):
    status, out, err = fedgate("verify", bundle.path, "--json", "--runtime", "litert")
    assert (status, err) == (0, "")
    assert [row["status"] for row in json.loads(out)["programs"]] == ["ok"] * 4
    lines = [json.loads(line)[2:] for line in (phone / "log").read_text().splitlines()]
    folder = next(path.name for path in (phone / "files").glob("bundle-*"))
    check = "sha256sum -c SHA256SUMS >/dev/null 2>&1"
    start = "am start -n org.fedgate.demo/.RunActivity"
    request = next(line[1].split()[-1] for line in lines if "--es" in line[-1])
    out_folder = lines[-1][1].rpartition("/")[2]
    asked = {"version": 1, "command": "verify", "bundle": folder, "options": {"runtime": "litert"}, "out": out_folder}
    assert json.loads(base64.urlsafe_b64decode(request)) == asked
    pushed = next(line[1] for line in lines if line[0] == "push")
    assert Path(pushed).name == f"part-{folder}"
    whole = "echo fedgate-whole || true"
    assert lines == [
        ["get-state"],
        ["shell", "pm path org.fedgate.demo || true"],
        ["shell", f"cd {FILES} 2>/dev/null && {whole}"],
        ["shell", start],
        ["shell", f"cd {FILES} 2>/dev/null && {whole}"],
        ["shell", f"cd {FILES}/{folder} 2>/dev/null && {check} && {whole}"],
        ["shell", f"rm -rf {FILES}/part-{folder} {FILES}/{folder}"],
        ["push", pushed, f"{FILES}/"],
        ["shell", f"cd {FILES}/part-{folder} && {check} && cd .. && mv part-{folder} {folder} && {whole}"],
        ["shell", f"{start} --es request {request}"],
        ["shell", f"ls {FILES}/{out_folder}/result.json 2>/dev/null || true"],
        ["pull", f"{FILES}/{out_folder}", lines[-2][2]],
        ["shell", f"rm -rf {FILES}/{out_folder}"],
    ]
    assert sorted(path.name for path in (phone / "files").iterdir()) == [folder]
    status, out, err = fedgate("bench", bundle.path, "--rounds", 20, "--runtime", "litert")
    assert (status, err) == (0, "") and "litert-dense.tflite" in out and "20 rounds" in out
    log = (phone / "log").read_text()
    assert log.count('"push"') == 1  # the bundle once


def test_hostile_names_are_in_no_command_line(fedgate, phone, bundle, tmp_path):
    place = tmp_path / "-x $(touch y) 'a\"\n.fedgate"
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(bundle.path)
    status, _, err = fedgate("verify", f"./{place.name}", "--runtime", "$(touch y); `touch y`")
    assert status == 2 and "unknown runtime" in err
    assert "touch" not in (phone / "log").read_text() and not (tmp_path / "y").exists()


@pytest.mark.parametrize(
    "file, content, text",
    [
        ("state", "unauthorized", "cannot use R58M: adb says it is 'unauthorized'"),
        ("refuse-push", "", "R58M: adb: error: failed to copy: remote write failed: No space left on device"),
        ("crash", "", "R58M: the app ended without a result"),
    ],
)
def test_what_goes_wrong_is_one_line(fedgate, phone, bundle, file, content, text):
    (phone / file).write_text(content)
    status, out, err = fedgate("verify", bundle.path)
    assert (status, out) == (1, "") and text in err and err.count("\n") == 1
    (phone / file).unlink()
    assert fedgate("deploy", bundle.path)[0] == 0  # nothing half is in the way
    assert [path.name.split("-")[0] for path in (phone / "files").iterdir()] == ["bundle"]


def test_a_copy_that_was_damaged_on_the_way_is_not_used(fedgate, phone, bundle):
    (phone / "bin" / "adb").rename(phone / "bin" / "real")
    (phone / "bin" / "adb").write_text(
        f'#!/bin/sh\n"$(dirname "$0")/real" "$@" || exit\n'
        f'[ "$3" = push ] && for f in {phone}/files/part-bundle-*/manifest.json; do echo >> "$f"; done; exit 0\n'
    )
    (phone / "bin" / "adb").chmod(0o755)
    status, _, err = fedgate("deploy", bundle.path)
    assert status == 1 and "does not have its hashes there" in err
    assert not list((phone / "files").glob("bundle-*"))


@pytest.mark.parametrize("serial", ["-x", "a b", "$(x)", "a;b", "../x"])
def test_no_serials(fedgate, phone, serial):
    status, _, err = fedgate("deploy", "x.fedgate", target=f"adb:{serial}")
    assert status == 2 and "adb:SERIAL" in err and not (phone / "log").exists()
