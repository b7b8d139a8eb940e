"""A phone that `adb` reaches, with fedgate's app on it. Not run on a phone yet: only against a recorded `adb`.

What the app and this module agree on. Everything lies in the app's own folder on the phone's shared storage, FILES:

    bundle-DIGEST/      a bundle, as it is here
    data-DIGEST/        a file or folder of the user's: index.json, a list of names ["class/name.png", ...], and the
                        files under their numbers in that list: shared storage does not take every name
    out-ID/             what the app writes: result.json, under another name first, {"status": 0, "message": "",
                        "result": the JSON document that the same fedgate command prints}, and the command's files

Each folder but the last carries SHA256SUMS, is written as part-NAME, and gets its name when its hashes agree. The app
is started by `am start` with one extra, `request`, in base64url: {"version": 1, "command": "bench", "bundle":
"bundle-DIGEST", "out": "out-ID", "options": {"threads": 2, "data": "data-DIGEST", ...: those that the user gave}}.
So it can answer even where it may not read what was copied. Without that extra it only makes FILES, which has to be
the app's own: a folder that adb made, some phones do not let the app write to. No name or word of the user's is ever
in a command line on the phone but in base64.
"""

import base64
import hashlib
import json
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from ..errors import FedgateError, UsageError
from ..formats.bundle import load_bundle
from ..formats.checks import Fields, canonical_json, parse_json
from ..formats.manifest import plain_name
from ..storage import read_file, sha256_file, write_file
from ..text import printable
from .places import bundle_files, folder_files, here_for_there, refuse_taken
from .request import ON_DEVICE, Request
from .results import check_result, failure

PACKAGE = "org.fedgate.demo"
ACTIVITY = f"{PACKAGE}/.RunActivity"
FILES = f"/sdcard/Android/data/{PACKAGE}/files"
SUMS = "SHA256SUMS"
WHOLE = "fedgate-whole"
POLL_SECONDS = 1.0
START_SECONDS = 20  # for the app to make its folder


def open_target(rest: str, python: str) -> "AdbTarget":
    """The target of `adb:SERIAL`. Raises `UsageError` for what is no serial, `FedgateError` for an unusable phone."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]*", rest):
        raise UsageError(f"'adb:{rest}' is no adb:SERIAL, as `adb devices` lists them")
    if shutil.which("adb") is None:
        raise FedgateError("adb is not installed (Debian: apt install adb)")
    return AdbTarget(rest)


class AdbTarget:
    """Runs commands in the app on a phone. A context manager."""

    def __init__(self, serial: str):
        self.serial = serial
        state = self._adb("get-state")
        if state != "device":
            raise FedgateError(f"cannot use {serial}: adb says it is '{state}'")
        if "package:" not in self._shell(f"pm path {PACKAGE} || true"):
            raise FedgateError(f"{serial} has no {PACKAGE}: install fedgate's app on it")
        self._make_folder()

    def _make_folder(self) -> None:
        """Have the app make its folder, where it has not yet. Raises `FedgateError`."""
        there = f"cd {FILES} 2>/dev/null && echo {WHOLE} || true"
        for attempt in range(START_SECONDS):
            if WHOLE in self._shell(there):
                return
            if attempt == 0:
                self._shell(f"am start -n {ACTIVITY}")
            time.sleep(POLL_SECONDS)
        raise FedgateError(f"{self.serial} has no folder {FILES}: start the app once")

    def __enter__(self) -> "AdbTarget":
        return self

    def __exit__(self, *error) -> None:
        pass

    def deploy(self, path: Path) -> dict:
        """Bring a bundle into the app's folder; returns what is where, as JSON."""
        name, sent = self._put("bundle", bundle_files(load_bundle(path)))
        return {
            "target": f"adb:{self.serial}",
            "machine": printable(self._shell("getprop ro.product.cpu.abi")),
            "bundle": f"{FILES}/{name}",
            "sent_bytes": sent,
        }

    def run(self, request: Request) -> dict:
        """Run a command in the app, and return the JSON document that it wrote. Raises what it raised there."""
        if request.out is not None:
            refuse_taken(request.out)
        bundle, _ = self._put("bundle", bundle_files(load_bundle(request.bundle)))
        options = {flag.lstrip("-"): self._option(value) for flag, value in request.given}
        out = f"out-{secrets.token_hex(8)}"
        wanted = {"version": 1, "command": request.command, "bundle": bundle, "options": options, "out": out}
        asked = base64.urlsafe_b64encode(canonical_json(wanted).encode()).decode()
        try:
            started = self._shell(f"am start -n {ACTIVITY} --es request {asked}")
            if "Error" in started:
                raise FedgateError(f"{self.serial}: {printable(started.splitlines()[-1])}")
            self._wait(out)
            return self._fetch(request, out)
        finally:
            self._shell(f"rm -rf {FILES}/{out}")

    def _option(self, value):
        """An option's value for the request: a file or folder is copied, and stands there by its folder's name."""
        if not isinstance(value, Path):
            return value.removeprefix(ON_DEVICE) if isinstance(value, str) else value
        files = folder_files(value) if value.is_dir() else {value.name: value}
        numbered = {str(number): path for number, path in enumerate(files.values())}
        index = json.dumps([name.encode("utf-8", "replace").decode() for name in files]).encode()
        return self._put("data", numbered | {"index.json": index})[0]

    def _put(self, kind: str, files: Mapping[str, Path | bytes]) -> tuple[str, int]:
        """Bring files with plain names to the phone, whole or not at all: their folder there, and the bytes sent."""
        digests = {
            name: hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256_file(content)
            for name, content in sorted(files.items())
        }
        sums = "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()
        name = f"{kind}-{hashlib.sha256(sums).hexdigest()[:16]}"
        check = f"sha256sum -c {SUMS} >/dev/null 2>&1"
        if WHOLE in self._shell(f"cd {FILES}/{name} 2>/dev/null && {check} && echo {WHOLE} || true"):
            return name, 0
        with tempfile.TemporaryDirectory(prefix="fedgate-") as folder:
            part = Path(folder, f"part-{name}")
            part.mkdir()
            for file, content in {**files, SUMS: sums}.items():
                (part / file).write_bytes(content if isinstance(content, bytes) else read_file(content))
            sent = sum(path.stat().st_size for path in part.iterdir())
            self._shell(f"rm -rf {FILES}/part-{name} {FILES}/{name}")
            self._adb("push", str(part), f"{FILES}/")
        move = f"cd {FILES}/part-{name} && {check} && cd .. && mv part-{name} {name} && echo {WHOLE} || true"
        if WHOLE not in self._shell(move):
            raise FedgateError(f"{self.serial}: what was copied does not have its hashes there: try again")
        return name, sent

    def _wait(self, out: str) -> None:
        """Until the app has written its result. Raises `FedgateError` if it ends without."""
        gone = 0
        while "result" not in self._shell(f"ls {FILES}/{out}/result.json 2>/dev/null || true"):
            gone = 0 if self._shell(f"pidof {PACKAGE} || true") else gone + 1
            if gone > 2:  # it may just be starting
                raise FedgateError(f"{self.serial}: the app ended without a result; adb logcat tells why")
            time.sleep(POLL_SECONDS)

    def _fetch(self, request: Request, out: str) -> dict:
        with tempfile.TemporaryDirectory(prefix="fedgate-") as folder:
            self._adb("pull", f"{FILES}/{out}", folder)
            pulled = Path(folder, out)
            answer = Fields(parse_json(read_file(pulled / "result.json"), f"the result of {self.serial}"), "the result")
            status = answer.whole("status", 0, 255)
            if status != 0:
                raise failure(status, answer.text("message", 10_000), self.serial)
            result = check_result(request.command, answer.get("result"), self.serial)
            if request.out is None:
                return result
            request.out.mkdir(parents=True, exist_ok=True)
            for path in pulled.iterdir():
                if path.is_file() and path.name != "result.json":
                    write_file(request.out / plain_name(path.name), read_file(path))
        return here_for_there(result, f"{FILES}/{out}", str(request.out))

    def _shell(self, line: str) -> str:
        """Run a line on the phone: fixed words, digests and our own names alone."""
        return self._adb("shell", line)

    def _adb(self, *arguments: str) -> str:
        done = subprocess.run(
            ["adb", "-s", self.serial, *arguments], capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode != 0:
            lines = (done.stderr.strip() or done.stdout.strip() or "adb failed").splitlines()
            raise FedgateError(f"{self.serial}: {printable(lines[-1])}")
        return done.stdout.strip()
