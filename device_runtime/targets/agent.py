"""What runs on the other side of an ssh connection, on Python's standard library alone; `session.py` sends this source.

A conversation of JSON lines over stdin and stdout, one request and its answer after the other; an answer with "error"
ends it. File contents follow their line as they are. The first answer, to no request, says what is here. What is copied
becomes a folder in the user's cache, named by the hash of its contents:

    ~/.cache/fedgate/device/bundle-0123456789abcdef/      whole, every hash compared: it gets this name at the end
    ~/.cache/fedgate/device/part-bundle-0123456789abcdef/ a copy that has not come to its end: whole files, named by
                                                          their hashes, so that the next attempt sends only the others

Kept to old Python's grammar, so that a device whose Python is too old says so.
"""

import errno
import hashlib
import importlib.util
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

NEEDED = ("click", "numpy", "rich", "safetensors", "PIL")
RUNTIMES = ("ai_edge_litert", "tflite_runtime", "executorch", "onnxruntime")
CHUNK = 1 << 20
LONGEST_OUTPUT = 1 << 26
PRINTED = "printed.json"
STALE = 7 * 24 * 3600  # seconds after which a copy that never came to its end is dropped


class AgentError(Exception):
    pass


def main(nonce, stdin, stdout):
    def answer(message):
        stdout.write((json.dumps(message) + "\n").encode("ascii"))
        stdout.flush()

    try:
        root = cache()
        answer({"hello": nonce, **facts(), "cache": root})
        while True:
            line = stdin.readline()
            if not line:
                return
            request = json.loads(line.decode("ascii"))
            actions = {"put": put, "run": run, "list": list_files, "get": get, "drop": drop}
            actions[request.pop("do")](root, stdin, stdout, answer, **request)
    except AgentError as error:
        answer({"error": str(error)})
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            answer({"error": f"no space left in {root}, which has {size(free(root))} free"})
        elif error.errno != errno.EPIPE:
            answer({"error": f"{error.filename!a}: {error.strerror or error}"})


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    root = os.path.join(base, "fedgate", "device")
    # pictures and tuned models of the user may lie here
    os.makedirs(root, mode=0o700, exist_ok=True)
    return root


def facts():
    return {
        "python": list(sys.version_info[:3]),
        "executable": sys.executable,
        "machine": platform.machine(),
        "missing": [name for name in NEEDED if importlib.util.find_spec(name) is None],
        "runtimes": [name for name in RUNTIMES if importlib.util.find_spec(name) is not None],
    }


def put(root, stdin, stdout, answer, name, files):
    """Make the folder `name` of `files` [[path, bytes, sha256]] from what follows, unless it is here already.

    Nothing is flushed to the disk: what a power cut left incomplete is found by its hashes and sent again.
    """
    target, part = os.path.join(root, name), os.path.join(root, "part-" + name)
    if whole(target, files):
        return answer({"missing": [], "path": target})
    drop_stale(root)
    os.makedirs(part, exist_ok=True)
    kept = {}
    missing = []
    for index, (_, length, digest) in enumerate(files):
        place = os.path.join(part, digest)
        if digest not in kept:
            kept[digest] = matches(place, length, digest)
            if not kept[digest]:
                missing.append(index)
    needed = sum(files[index][1] for index in missing)
    if needed > free(root):
        shutil.rmtree(part, ignore_errors=True)
        raise AgentError(f"no space left in {root}: {size(needed)} needed, {size(free(root))} free")
    answer({"missing": missing})
    try:
        for index in missing:
            receive(stdin, part, *files[index])
        publish(root, part, target, files)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # give back what a copy that cannot end has taken
            shutil.rmtree(part, ignore_errors=True)
        raise
    answer({"path": target})


def receive(stdin, part, path, length, digest):
    """Write the next `length` bytes of stdin as the file `digest` of `part`, if that is their hash."""
    handle, temporary = tempfile.mkstemp(prefix="tmp-", dir=part)
    try:
        seen = hashlib.sha256()
        with os.fdopen(handle, "wb") as file:
            left = length
            while left:
                data = stdin.read(min(left, CHUNK))
                if not data:
                    sys.exit(1)  # the other side is gone; nobody listens
                seen.update(data)
                file.write(data)
                left -= len(data)
        if seen.hexdigest() != digest:
            raise AgentError(f"{path!a} changed while it was copied")
        os.rename(temporary, os.path.join(part, digest))
        temporary = None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def publish(root, part, target, files):
    """Lay the files of `part` out in a folder aside, and give that the name `target` in one step."""
    aside = tempfile.mkdtemp(prefix="part-", dir=root)
    try:
        for path, _, digest in files:
            place = os.path.join(aside, *path.split("/"))
            os.makedirs(os.path.dirname(place), exist_ok=True)
            try:
                os.link(os.path.join(part, digest), place)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    raise
                shutil.copyfile(os.path.join(part, digest), place)  # no links on this file system
        if os.path.exists(target):  # damaged, or just finished by another connection
            os.rename(target, aside + "-old")
        os.rename(aside, target)
    finally:
        for folder in (aside, aside + "-old"):
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(part, ignore_errors=True)


def whole(folder, files):
    return all(matches(os.path.join(folder, *path.split("/")), length, digest) for path, length, digest in files)


def matches(path, length, digest):
    if not os.path.isfile(path) or os.path.getsize(path) != length:
        return False
    seen = hashlib.sha256()
    with open(path, "rb") as file:
        for data in iter(lambda: file.read(CHUNK), b""):
            seen.update(data)
    return seen.hexdigest() == digest


def drop_stale(root):
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if name.startswith("part-") and time.time() - os.path.getmtime(path) > STALE:
            shutil.rmtree(path, ignore_errors=True)


def run(root, stdin, stdout, answer, arguments, environment, code, out=None):
    """Run `python -m fedgate ARGUMENTS`; answers with lines of its stderr as they come, then status and stdout.

    Where the connection ends, so does the command: as by Ctrl-C, so that what can be resumed is left to be. out: the
    folder that the command makes. What it printed is kept in there until that is fetched: a command that had come to
    its end when the connection was lost is not run again.
    """
    printed = out and os.path.join(out, PRINTED)
    if out and os.path.isfile(printed):
        with open(printed, encoding="utf-8") as file:
            return answer({"status": 0, "stdout": file.read()})
    environment = dict(os.environ, PYTHONUTF8="1", PYTHONPATH=code, **environment)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "fedgate", *arguments]
    child = subprocess.Popen(command, cwd=code, env=environment, start_new_session=True, **pipes)
    output, line = bytearray(), bytearray()
    streams = {child.stdout.fileno(): output, child.stderr.fileno(): line}
    try:
        while streams:
            for stream in select.select([stdin.fileno(), *streams], [], [])[0]:
                if stream == stdin.fileno():  # nothing is sent meanwhile: this is its end
                    sys.exit(1)
                data = os.read(stream, CHUNK)
                if not data:
                    del streams[stream]
                elif stream == child.stderr.fileno():
                    line += data.replace(b"\r", b"\n")
                    while b"\n" in line:
                        text, _, rest = bytes(line).partition(b"\n")
                        line[:] = rest
                        answer({"line": text.decode("utf-8", "replace")})
                else:
                    output += data
                if len(output) > LONGEST_OUTPUT or len(line) > LONGEST_OUTPUT:
                    raise AgentError(f"the command printed more than {size(LONGEST_OUTPUT)}")
        status = child.wait()
    finally:
        stop(child)
    if out and status == 0:
        with open(printed + ".part", "wb") as file:
            file.write(output)
        os.replace(printed + ".part", printed)
    answer({"line": line.decode("utf-8", "replace")})
    answer({"status": status, "stdout": output.decode("utf-8", "replace")})


def stop(child):
    for number, seconds in ((signal.SIGINT, 20), (signal.SIGKILL, 20)):
        if child.poll() is None:
            os.killpg(child.pid, number)
            try:
                child.wait(seconds)
            except subprocess.TimeoutExpired:
                continue


def list_files(root, stdin, stdout, answer, folder):
    """The plain files of a folder: name, bytes, sha256."""
    found = []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name != PRINTED and os.path.isfile(path) and not os.path.islink(path):
            with open(path, "rb") as file:
                content = file.read()
            found.append({"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    answer({"files": found})


def get(root, stdin, stdout, answer, path):
    """The bytes of a file, after its length."""
    with open(path, "rb") as file:
        content = file.read()
    answer({"bytes": len(content)})
    stdout.write(content)
    stdout.flush()


def drop(root, stdin, stdout, answer, folder):
    """Remove a folder of the cache."""
    if os.path.dirname(folder) == root:
        shutil.rmtree(folder, ignore_errors=True)
    answer({})


def free(folder):
    return shutil.disk_usage(folder).free


def size(count):
    return f"{count / 1e6:.1f} MB"
