"""Kills a write before each of its steps on the disk; prints what was there after each kill, a JSON list.

python killed_writes.py PATH [BUNDLE]: of the file PATH, or of PATH as a copy of a bundle. Every attempt is a fork of
this process, which has imported everything and started no thread.
"""

import json
import os
import signal
import sys
from pathlib import Path

from fedgate.device_runtime.formats.bundle import load_bundle, write_bundle
from fedgate.device_runtime.storage import write_file

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "ctypes.dlsym"}  # the last before an exchange


def killed_before(step, folder, work):
    """Run `work` in a fork that dies before its step number `step` in `folder`; whether it died."""
    pid = os.fork()
    if pid == 0:
        status, steps = 1, 0

        def count(event, arguments):
            nonlocal steps
            if event == "ctypes.dlsym" or (event in STEPS and str(folder) in str(arguments[0])):
                if steps == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                steps += 1

        try:
            sys.addaudithook(count)
            work()
            status = 0
        finally:
            os._exit(status)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0, "a write failed; its reason is above"
    return os.WIFSIGNALED(status)


def main(path, bundle=None):
    def write():
        if bundle is None:
            return write_file(path, b"new")
        files = {file.name: file for file in bundle.iterdir() if file.name != "manifest.json"}
        return write_bundle(path, json.loads((bundle / "manifest.json").read_bytes()), files, overwrite=True)

    def there():
        return path.read_text() if bundle is None else load_bundle(path).manifest.model

    found = []
    while killed_before(len(found), path.parent, write):
        found.append(there() if path.exists() else None)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
