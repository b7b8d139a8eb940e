"""The near side of the conversation with `agent.py`, over any command that runs a Python elsewhere."""

import contextlib
import hashlib
import json
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import FedgateError
from ..formats.checks import Fields, parse_json
from ..formats.manifest import plain_name
from ..storage import sha256_file, write_file
from ..text import printable
from .agent import NEEDED, RUNTIMES

# The one command line that a remote shell sees, whatever the user's files are called. A folder in the home that is
# named like a package must not stand in for it.
BOOTSTRAP = "import sys;del sys.path[0];n=int(sys.stdin.buffer.readline());exec(sys.stdin.buffer.read(n))"
LONGEST_LINE = 2**27
MOST_NOISE = 2**20  # bytes that a login script may print before us
MOST_FILES = 100
LARGEST_FILE = 2**30
CHUNK = 2**20


class LostConnectionError(FedgateError):
    """The connection ended, or was never made; `status` is that of the command which made it."""

    def __init__(self, message: str, status: int | None):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Facts:
    """What the agent says of its machine; `missing`: modules that it lacks of those we need; `cache`: its folder."""

    python: tuple[int, ...]
    executable: str
    machine: str
    cache: str
    missing: tuple[str, ...]
    runtimes: tuple[str, ...]


class Session:
    """One conversation with the agent, whose `facts` are known from its start."""

    def __init__(self, command: Sequence[str], name: str):
        """Start a conversation with the Python that `command` starts as `python -c BOOTSTRAP`.

        name: the device, for messages. Raises `LostConnectionError` where there is none.
        """
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the session
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        try:
            self.facts = self._greet()
        except BaseException:
            self.close()
            raise

    def _greet(self) -> Facts:
        nonce = secrets.token_hex(8)
        source = Path(__file__).with_name("agent.py").read_bytes()
        source += f"\nmain({nonce!r}, sys.stdin.buffer, sys.stdout.buffer)\n".encode()
        self._send(f"{len(source)}\n".encode(), source)
        noise = 0
        while noise < MOST_NOISE:
            line = self._readline()
            if nonce.encode() in line or line.startswith(b'{"error"'):
                return parse_facts(self._parse(line), self.name)
            noise += len(line)
        raise FedgateError(f"{self.name} prints too much before a command starts: look at its login scripts")

    def ask(self, do: str, **request) -> dict:
        """One request and its answer.

        Raises `FedgateError` with the error that the answer tells, `LostConnectionError` where there is no answer.
        """
        self._send(json.dumps({"do": do, **request}).encode() + b"\n")
        return self._answer()

    def put(self, kind: str, files: Mapping[str, Path]) -> tuple[str, int]:
        """Copy files, by their names in the new folder; returns the folder there and the bytes that were sent.

        What is there already, whole or from an attempt that was cut, is not sent again.
        """
        listed = [[name, path.stat().st_size, sha256_file(path)] for name, path in sorted(files.items())]
        digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]
        answer = self.ask("put", name=f"{kind}-{digest}", files=listed)
        missing = answer.get("missing")
        if not isinstance(missing, list) or not all(type(i) is int and 0 <= i < len(listed) for i in missing):
            raise self._nonsense()
        if "path" not in answer:
            for index in missing:
                self._stream(files[listed[index][0]], listed[index][1])
            answer = self._answer()
        return self._text(answer, "path"), sum(listed[index][1] for index in missing)

    def run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        code: str,
        say: Callable[[str], None],
        out: str | None = None,
    ) -> tuple[int, str]:
        """Run `python -m fedgate ARGUMENTS` there: its exit status and stdout; `say` gets each line of its stderr.

        out: the folder there which the command makes. If it has made it whole before, and nobody fetched that, what it
        printed then is returned.
        """
        request = {"arguments": list(arguments), "environment": dict(environment), "code": code, "out": out}
        answer = self.ask("run", **request)
        while "status" not in answer:
            text = printable(self._text(answer, "line"))
            if text:
                say(text)
            answer = self._answer()
        if type(answer["status"]) is not int:
            raise self._nonsense()
        return answer["status"], self._text(answer, "stdout")

    def fetch(self, folder: str, here: Path) -> None:
        """Bring the plain files of a folder there into `here`, each whole, and remove the folder there."""
        files = self.ask("list", folder=folder).get("files")
        if not isinstance(files, list) or len(files) > MOST_FILES:
            raise self._nonsense()
        try:
            here.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FedgateError(f"cannot write {here}: {error.strerror or error}") from error
        for item in files:
            fields = Fields(item, f"a file on {self.name}")
            name, length = plain_name(fields.text("name")), fields.whole("bytes", 0, LARGEST_FILE)
            write_file(here / name, self._get(f"{folder}/{name}", length, fields.sha256("sha256")))
        self.ask("drop", folder=folder)

    def _get(self, path: str, length: int, digest: str) -> bytes:
        """The content of a file there, which must have this length and SHA-256."""
        if self.ask("get", path=path).get("bytes") != length:
            raise FedgateError(f"{printable(path)} on {self.name} changed while it was fetched")
        content = self._process.stdout.read(length)
        if len(content) != length:
            raise self._lost()
        if hashlib.sha256(content).hexdigest() != digest:
            raise FedgateError(f"{printable(path)} from {self.name} does not have the hash that was promised")
        return content

    def close(self) -> None:
        """End the conversation, and with it what still runs there."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _stream(self, path: Path, length: int) -> None:
        try:
            with open(path, "rb") as file:
                for start in range(0, length, CHUNK):
                    # a file that became shorter is filled up: its hash will not match, and the other side says so
                    wanted = min(CHUNK, length - start)
                    if not self._send(file.read(wanted).ljust(wanted, b"\0")):
                        return
        except OSError as error:
            raise FedgateError(f"cannot read {path}: {error.strerror or error}") from error

    def _send(self, *parts: bytes) -> bool:
        """False where the other side no longer listens: what it says last, or its end, tells why."""
        try:
            for part in parts:
                self._process.stdin.write(part)
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def _answer(self) -> dict:
        return self._parse(self._readline())

    def _readline(self) -> bytes:
        line = self._process.stdout.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise self._lost()
        return line

    def _parse(self, line: bytes) -> dict:
        answer = parse_answer(line, self.name)
        if "error" in answer:
            raise FedgateError(f"{self.name}: {printable(self._text(answer, 'error'))}")
        return answer

    def _text(self, answer: dict, key: str) -> str:
        if not isinstance(answer.get(key), str):
            raise self._nonsense()
        return answer[key]

    def _nonsense(self) -> FedgateError:
        return FedgateError(f"{self.name} answered with something that is no answer of ours")

    def _lost(self) -> LostConnectionError:
        """What ended the connection, in the words of the command that made it."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            status = self._process.wait(5)
        except subprocess.TimeoutExpired:
            status = None
        self._errors.seek(0)
        lines = self._errors.read(2**16).decode("utf-8", "replace").strip().splitlines()
        return LostConnectionError(printable(lines[-1]) if lines else "it was closed", status)


def parse_facts(answer: dict, name: str) -> Facts:
    """The facts of the first answer. Raises `FedgateError` for anything that the agent would not say."""
    fields = Fields(answer, f"the answer of {name}")
    for key, known in (("missing", NEEDED), ("runtimes", RUNTIMES)):
        if any(item not in known for item in fields.items(key, 0, 100)):
            fields.refuse(key, f"among {', '.join(known)}")
    return Facts(
        python=fields.wholes("python", (3, 3), 0, 1000),
        executable=fields.text("executable", 4096),
        machine=fields.text("machine"),
        cache=fields.text("cache", 4096),
        missing=tuple(answer["missing"]),
        runtimes=tuple(answer["runtimes"]),
    )


def parse_answer(line: bytes, name: str) -> dict:
    """The object of an answer line. Raises `FedgateError` for anything else."""
    answer = parse_json(line, f"the answer of {name}")
    if not isinstance(answer, dict):
        raise FedgateError(f"the answer of {name} is no JSON object")
    return answer
