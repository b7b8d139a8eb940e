"""What server and node say to each other, apart from how it travels: a JSON text and named blobs, checked when read.

    task    {"task": "hello"}                            answered by {"client": int, "trainer": text}
            {"task": "train", "client": int, "run": what config.json holds, "plan": a `LocalPlan`, "base_round": int,
             "base_hash": text, "held": round or null, "trunk": SHA-256 or null}; blobs "download", "trunk" if asked
    answer  {"client": int, "loss", "accuracy", "cpu_seconds", "seconds": numbers}; blob "update"
            {"lacks": "held" or "trunk"}: the task is to be sent again with all weights, or with the frozen ones
            {"error": text}

`held` is the round whose weights the server believes the client to hold; `trunk` the hash of frozen weights, which no
download brings. A client numbers itself, by its node's configuration.
"""

import dataclasses
import json
import math
from dataclasses import dataclass

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.checks import Fields, canonical_json, parse_json
from fedgate.device_runtime.text import printable

MOST = 2**31 - 1
LACKS = ("held", "trunk")
FIGURES = ("loss", "accuracy", "cpu_seconds", "seconds")


@dataclass(frozen=True)
class Task:
    """A client's task in a round. run: the document of config.json; plan: fields of a `LocalPlan`."""

    client: int
    run: dict
    plan: dict
    base_round: int
    base_hash: str
    held: int | None
    trunk: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a node answered: an update with figures for the log, or what it lacks, or why it cannot."""

    update: bytes = b""
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    lacks: str | None = None
    error: str | None = None


def hello():
    return canonical_json({"task": "hello"})


def hello_answer(client, trainer):
    return canonical_json({"client": client, "trainer": trainer})


def read_hello(text):
    """Who a node says it is: (client, trainer)."""
    fields = Fields(parse_json(text, "the node's answer"), "the node's answer")
    return fields.whole("client", 0, MOST), fields.text("trainer")


def write_task(task: Task):
    return canonical_json({"task": "train"} | dataclasses.asdict(task))


def read_task(text):
    """A `Task`, or None for a hello."""
    fields = Fields(parse_json(text, "the task"), "the task")
    if fields.choice("task", ("hello", "train")) == "hello":
        return None
    documents = {key: fields.get(key) for key in ("run", "plan")}
    for key, value in documents.items():
        if not isinstance(value, dict):
            fields.refuse(key, "an object")
    return Task(
        client=fields.whole("client", 0, MOST),
        base_round=fields.whole("base_round", 0, MOST),
        base_hash=fields.sha256("base_hash"),
        held=None if fields.get("held") is None else fields.whole("held", 0, MOST),
        trunk=None if fields.get("trunk") is None else fields.sha256("trunk"),
        **documents,
    )


def write_answer(answer: Answer):
    """(text, blobs)"""
    if answer.lacks or answer.error:
        said = {"lacks": answer.lacks} if answer.lacks else {"error": printable(answer.error)[:1000]}
        return canonical_json(said), {}
    figures = {name: value if math.isfinite(value) else None for name, value in answer.figures.items()}
    return canonical_json(figures), {"update": answer.update}


def read_answer(text, blobs):
    """An `Answer` whose every field was checked. Raises `FedgateError` for one that makes no sense."""
    document = parse_json(text, "the node's answer")
    fields = Fields(document, "the node's answer")
    if "error" in document:
        said = str(document["error"])[:1000]
        return Answer(error=printable(said) or "?")
    if "lacks" in document:
        return Answer(lacks=fields.choice("lacks", LACKS))
    if "update" not in blobs:
        raise FedgateError("the node's answer has no update")
    figures = {name: math.nan if fields.get(name) is None else fields.number(name, 0, 1e12) for name in FIGURES}
    return Answer(blobs["update"], figures)


def run_document(info):
    """What config.json holds of a run, without what is of the server's disk alone."""
    config = json.loads(info.config.to_json()) | {"inbox": None}
    return {"run": info.run, "config": config, "resolved": info.resolved, "data": info.data, "versions": info.versions}
