"""A machine with a Python and a runtime, at the other end of a session: what is brought there, and what runs there."""

import hashlib
from pathlib import Path

from ..errors import FedgateError
from ..formats.bundle import load_bundle
from ..formats.checks import canonical_json
from ..text import say as say_line
from .conversation import Facts, LostConnectionError, Session
from .kernel import provide
from .package import package_files
from .places import bundle_files, folder_files, here_for_there, refuse_taken
from .request import Request
from .results import parse_result

OLDEST_PYTHON = (3, 11)
# how pip calls what device_runtime imports
DISTRIBUTIONS = {"PIL": "Pillow"}
RUNTIMES = {"ai_edge_litert": "litert", "tflite_runtime": "litert", "executorch": "executorch", "onnxruntime": "onnx"}
SIMPLEST_RUNTIME = "ai-edge-litert"


class RemoteTarget:
    """Runs commands of this very fedgate there. A context manager; leaving it ends what still runs there."""

    def __init__(self, name: str, session: Session):
        """name: as the user wrote it. Raises `FedgateError` where something has to be installed first."""
        self.name, self._session = name, session
        try:
            check(session.name, session.facts)
        except FedgateError:
            session.close()
            raise

    def __enter__(self) -> "RemoteTarget":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._session.close()
        if isinstance(error, LostConnectionError):
            raise FedgateError(
                f"the connection to {self._session.name} was lost ({error}): "
                "give the same command again; what was copied whole is kept"
            ) from error

    def deploy(self, path: Path) -> dict:
        """Bring a bundle there, and the code and the kernel that run it; returns what is where, as JSON.

        Raises `FedgateError`.
        """
        bundle = load_bundle(path)
        code, code_bytes = self._session.put("code", package_files(kernel_sources=True))
        place, bundle_bytes = self._session.put("bundle", bundle_files(bundle))
        facts = self._session.facts
        runtimes = sorted({RUNTIMES[name] for name in facts.runtimes})
        kernels, without_skip = provide(self._session, bundle, code, runtimes)
        return {
            "target": self.name,
            "machine": facts.machine,
            "python": facts.executable,
            "runtimes": runtimes,
            "code": code,
            "bundle": place,
            "kernels": kernels,
            "without_skip": without_skip,
            "sent_bytes": code_bytes + bundle_bytes,
        }

    def run(self, request: Request) -> dict:
        """Run a command there, and return the JSON document that it printed. Raises what it raised there."""
        there = self.deploy(request.bundle)
        if there["without_skip"]:
            say(f"without skip programs: {there['without_skip']}")
        place = {path: self._copy(path) for path in dict.fromkeys(request.inputs())}
        words = request.words(place)
        out = None
        if request.out is not None:
            refuse_taken(request.out)
            # the same command finds the same folder, and goes on in it
            key = canonical_json([request.command, there["bundle"], words])
            out = f"{self._session.facts.cache}/out-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
            words.append(f"--out={out}")
        arguments = [request.command, "--json", *words, "--", there["bundle"]]
        environment = {"FEDGATE_KERNELS": there["kernels"]} if there["kernels"] else {}
        last = []

        def relay(line):
            last[:] = [line]
            if not line.startswith("fedgate: "):
                say(line)

        status, output = self._session.run(arguments, environment, there["code"], relay, out)
        result = parse_result(request.command, status, output, "".join(last), self._session.name)
        if out is None:
            return result
        self._session.fetch(out, request.out)
        return here_for_there(result, out, str(request.out))

    def _copy(self, path: Path) -> str:
        """A file or a folder of the user's, there. Its name stays here, but for the names inside a folder."""
        if path.is_dir():
            return self._session.put("data", folder_files(path))[0]
        folder, _ = self._session.put("file", {"content": path})
        return f"{folder}/content"


def check(name: str, facts: Facts) -> None:
    """Raise a `FedgateError` with the pip command unless that Python can run us."""
    version = ".".join(map(str, facts.python))
    if facts.python < OLDEST_PYTHON:
        raise FedgateError(f"{name}: {facts.executable} is Python {version}; name a 3.11 or newer one with --python")
    missing = [DISTRIBUTIONS.get(module, module) for module in facts.missing]
    missing += [] if facts.runtimes else [SIMPLEST_RUNTIME]
    if missing:
        raise FedgateError(
            f"{name}: {facts.executable} lacks {', '.join(missing)}; there, in a virtual environment: "
            f"pip install {' '.join(missing)}; --python names its Python, as in --python venv/bin/python"
        )


def say(line: str) -> None:
    say_line(line, err=True)
