"""A federation of real processes on this machine: SuperLink, nodes and training, each by its command."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

FEDGATE = [sys.executable, "-m", "fedgate"]
SMALL = ["--clients", "4", "--partition", "dirichlet:0.3", "--density", "0.5"]


class Processes:
    """host: the SuperLink's address. prefix: a process's name -> what its command begins with (ip netns exec NAME)."""

    def __init__(self, folder, nodes=4, host="127.0.0.1", prefix=lambda name: [], hosts=()):
        self.folder, self.prefix, self.started = Path(folder), prefix, {}
        with socket.socket() as free:
            free.bind(("", 0))
            self.port = free.getsockname()[1]
        self.address, self.host = f"{host}:{self.port}", host
        names = [word for client in range(nodes) for word in ("--node", f"client-{client}")]
        more = [word for each in (host, *hosts) for word in ("--host", each)]
        self.call(["flower", "keys", "keys", *more, *names], stdout=subprocess.DEVNULL)

    def call(self, arguments, name="server", **options):
        return subprocess.run([*self.prefix(name), *FEDGATE, *arguments], cwd=self.folder, check=True, **options)

    def start(self, name, arguments):
        log = open(self.folder / f"{name}.log", "ab")  # noqa: SIM115 (the process has it)
        command = [*self.prefix(name), *FEDGATE, *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.started[name] = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env=environment)
        return self.started[name]

    def superlink(self):
        self.start("server", ["flower", "superlink", "--keys", "keys", "--host", self.host, "--port", str(self.port)])

    def node(self, client, *options, key=None):
        key = key or f"keys/nodes/client-{client}.key"
        arguments = ["client", "--superlink", self.address, "--ca", "keys/ca.crt", "--key", key]
        return self.start(f"client-{client}", [*arguments, "--client", str(client), *options])

    def train(self, *arguments, superlink=True, name="train"):
        where = ["--superlink", self.address, "--ca", "keys/ca.crt"] if superlink else []
        return self.start(name, ["train", *arguments, *where])

    def log(self, name):
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / f"{name}.log").read_text()
        return ""

    def wait_for(self, name, words, seconds=240):
        """Until a process has logged some words."""
        until = time.monotonic() + seconds
        while words not in self.log(name):
            assert time.monotonic() < until, f"no '{words}' in {name}:\n{self.log(name)}"
            time.sleep(0.1)

    def kill(self, name):
        self.started.pop(name).send_signal(signal.SIGKILL)

    def finish(self, name, seconds=500):
        """Until a process has ended well."""
        process = self.started.pop(name)
        assert process.wait(seconds) == 0, self.log(name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.started.values():
            process.kill()
        for process in self.started.values():
            process.wait()
