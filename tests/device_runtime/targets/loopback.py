"""A device on the loopback interface: a real sshd, and a user account that owns a Python with one runtime alone."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


def why_not():
    """What is missing for it, or None."""
    if os.geteuid() != 0:
        return "a user account of its own is made by root alone"
    for tool, package in ((SSHD, "openssh-server"), ("ssh", "openssh-client"), ("useradd", "passwd")):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (Debian: apt install {package})"
    return None


class Device:
    """`target` reaches it from a shell whose PATH begins with `path`; `home` is its user's.

    bare_python: the path of a Python there without any package.
    """

    target = "ssh:device"
    python = "venv/bin/python"

    def __init__(self, home, user, path, bare_python):
        self.home, self.user, self.path, self.bare_python = home, user, path, bare_python

    @property
    def cache(self):
        return self.home / ".cache" / "fedgate" / "device"

    def copies(self):
        """What lies in the cache under a final name."""
        return sorted(p.name for p in self.cache.iterdir() if not p.name.startswith("part-"))

    def parts(self):
        return sorted(p.name for p in self.cache.iterdir() if p.name.startswith("part-"))

    def processes(self):
        """Command lines of all that the user runs."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == pwd.getpwnam(self.user).pw_uid:
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
        return found

    def cut(self):
        """Kill what serves the connections, as when a machine is gone: no goodbye is said."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ProcessLookupError):
                if entry.name.isdigit() and f"sshd: {self.user}" in (entry / "cmdline").read_text():
                    os.kill(int(entry.name), 9)


@contextlib.contextmanager
def device(site_packages):
    """Make it, with the packages of an environment that has no more than a runtime; all of it goes at the end."""
    root = Path(tempfile.mkdtemp(prefix="fedgate-device-"))
    user, home = f"fedgate{os.getpid()}", root / "home"
    daemon = None
    try:
        root.chmod(0o755)
        command = ["useradd", "--create-home", "--home-dir", home, "--shell", "/bin/bash", "--password", "*", user]
        subprocess.run(command, check=True, capture_output=True)
        home.chmod(0o755)
        interpreter = python_of(root)
        subprocess.run([interpreter, "-m", "venv", "--without-pip", home / "venv"], check=True)
        target = next((home / "venv" / "lib").glob("python3*")) / "site-packages"
        shutil.copytree(site_packages, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*fedgate*", "pip*"))
        keys(root)
        (home / ".ssh").mkdir()
        shutil.copy(root / "user.pub", home / ".ssh" / "authorized_keys")
        subprocess.run(["chown", "-R", f"{user}:", home], check=True)
        port = free_port()
        daemon = start(root, port)
        yield Device(home, user, client(root, user, port), interpreter)
    finally:
        if daemon is not None:
            daemon.kill()
            daemon.wait()
        subprocess.run(["userdel", "--force", user], capture_output=True)
        shutil.rmtree(root, ignore_errors=True)


def python_of(root):
    """This very Python where another account may read it, without what lies beside the standard library."""
    base = Path(sys.base_prefix)
    library = Path("lib", f"python3.{sys.version_info.minor}")
    (root / "python" / "bin").mkdir(parents=True)
    interpreter = root / "python" / "bin" / library.name
    shutil.copy2(base / "bin" / library.name, interpreter)
    ignored = shutil.ignore_patterns("site-packages", "dist-packages", "test", "tests", "idlelib", "config-*")
    shutil.copytree(base / library, root / "python" / library, ignore=ignored)
    for shared in (base / "lib").glob("libpython*.so*"):
        shutil.copy2(shared, root / "python" / "lib")
    return interpreter


def keys(root):
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name]
        subprocess.run(command, check=True)


def start(root, port):
    """The daemon, listening."""
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    settings = root / "sshd_config"
    settings.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {root}/host\nPidFile none\nUsePAM no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nSetEnv LD_LIBRARY_PATH={root}/python/lib\n"
    )
    daemon = subprocess.Popen([SSHD, "-D", "-E", root / "sshd.log", "-f", settings])
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return daemon
        except OSError:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def client(root, user, port):
    """A folder with the `ssh` of a user whose configuration knows the host `device`."""
    key = (root / "host.pub").read_text().split()
    (root / "known_hosts").write_text(f"[127.0.0.1]:{port} {key[0]} {key[1]}\n")
    (root / "config").write_text(
        f"Host device\n HostName 127.0.0.1\n Port {port}\n User {user}\n IdentityFile {root}/user\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {root}/known_hosts\n GlobalKnownHostsFile /dev/null\n"
    )
    folder = root / "bin"
    folder.mkdir()
    # ssh looks for its configuration in the account's home, wherever HOME points
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {root}/config "$@"\n')
    (folder / "ssh").chmod(0o755)
    return folder


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
