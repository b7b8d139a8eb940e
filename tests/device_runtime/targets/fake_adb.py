"""An `adb` that records its command lines and keeps a folder instead of a phone: python fake_adb.py ROOT ARGUMENTS...

The app in it is this machine's fedgate: what it writes is the JSON of a real run. ROOT/refuse-push, ROOT/state and
ROOT/crash, where they exist, make a phone whose disk is full, one in another state, and an app that dies.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

FILES = "/sdcard/Android/data/org.fedgate.demo/files"


def main(root, arguments):
    with open(root / "log", "a") as log:
        log.write(json.dumps(arguments) + "\n")
    assert arguments[:2] == ["-s", "R58M"], arguments
    command, *rest = arguments[2:]
    place = str(root / "files")
    if command == "get-state":
        print((root / "state").read_text() if (root / "state").exists() else "device")
    elif command == "push":
        if (root / "refuse-push").exists():
            print("adb: error: failed to copy: remote write failed: No space left on device", file=sys.stderr)
            return 1
        shutil.copytree(rest[0], Path(rest[1].replace(FILES, place)) / Path(rest[0]).name)
    elif command == "pull":
        shutil.copytree(rest[0].replace(FILES, place), Path(rest[1]) / Path(rest[0]).name)
    elif command == "shell":
        words = rest[0].split()
        if words[:2] == ["am", "start"]:
            assert words[2:4] == ["-n", "org.fedgate.demo/.RunActivity"]
            print("Starting: Intent { cmp=org.fedgate.demo/.RunActivity (has extras) }")
            if not words[4:]:
                (root / "files").mkdir()
            elif not (root / "crash").exists():
                assert words[4:6] == ["--es", "request"]
                app(root / "files", json.loads(base64.urlsafe_b64decode(words[6])))
        elif words[0] == "pm":
            print("package:/data/app/org.fedgate.demo/base.apk")
        elif words[0] == "getprop":
            print("arm64-v8a")
        elif words[0] != "pidof":
            done = subprocess.run(["sh", "-c", rest[0].replace(FILES, place)], capture_output=True, text=True)
            print(done.stdout, end="")
            return done.returncode
    else:
        raise AssertionError(arguments)
    return 0


def app(files, request):
    words = [f"--{flag}={value}" for flag, value in request["options"].items()]
    command = [sys.executable, "-m", "fedgate", request["command"], files / request["bundle"], "--json", *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**os.environ})
    out = files / request["out"]
    out.mkdir()
    message = (done.stderr.splitlines() or [""])[-1].removeprefix("fedgate: ")
    result = json.loads(done.stdout) if done.stdout else None
    (out / "result.json.part").write_text(json.dumps({"status": done.returncode, "message": message, "result": result}))
    (out / "result.json.part").rename(out / "result.json")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
