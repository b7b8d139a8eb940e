"""Runs whose clients are nodes of a SuperLink, against the same runs with the local engine."""

import _thread
import dataclasses
import json
import threading

import pytest
from superlinks import federation

from fedgate.device_runtime.formats.tensors import pack, unpack
from fedgate.train.commands import run_training
from fedgate.train.engines.flower.torch_learner import TorchLearner

SMALL = {"clients": 2, "rounds": 3, "local_epochs": 1, "width": 0.5, "partition": "iid", "density": (0.5,)}


def train(path, superlink=None, **options):
    """A run's model file, and its rows of metrics.jsonl."""
    engine = "loop" if superlink is None else "flower"
    run_training(path, None, quiet=True, options=SMALL | options | {"engine": engine}, superlink=superlink)
    return read(path)


def read(path):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return (path / "model.safetensors").read_bytes(), rows


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The model of the run `SMALL` with the local engine."""
    return train(tmp_path_factory.mktemp("local") / "run")[0]


def told(rows):
    """What does not depend on clocks."""
    clocks = ("seconds", "cpu_seconds", "images_per_cpu_second")
    return [{key: value for key, value in row.items() if key not in clocks} for row in rows]


@pytest.mark.parametrize(
    "options",
    [
        {"codec": "int8", "download_codec": "int8", "fraction_train": 0.5, "clients": 3, "rounds": 4},
        pytest.param({"algorithm": "scaffold"}, marks=pytest.mark.slow),
    ],
)
def test_a_run_over_flower_is_the_local_engines(tmp_path, monkeypatch, options):
    """Model, rows and bytes: with what clients keep between rounds, and clients that miss some."""
    with federation(tmp_path, monkeypatch) as nodes:
        for client in range(options.get("clients", 2)):
            nodes.join(client)
        model, rows = train(tmp_path / "flower", nodes.superlink(), **options)
    local_model, local_rows = train(tmp_path / "local", **options)
    assert model == local_model
    assert told(rows) == told(local_rows)


def test_a_frozen_trunk_travels_once(tmp_path, monkeypatch):
    train(tmp_path / "base")
    tail = {"trainable": "head", "base": str(tmp_path / "base"), "rounds": 2}
    with federation(tmp_path, monkeypatch) as nodes:
        for client in range(2):
            nodes.join(client)
        model, rows = train(tmp_path / "flower", nodes.superlink(), **tail)
    assert model == train(tmp_path / "local", **tail)[0]
    first, second = (
        next(row["bytes_down"] for row in rows if row["round"] == i and row["client"] == 0) for i in (1, 2)
    )
    assert first > 5 * second


def test_errors_and_garbage_are_refused_updates(tmp_path, monkeypatch):
    class Fails(TorchLearner):
        def train(self, *_):
            raise ZeroDivisionError("the disk is\x1b[31m full")

    class Garbage(TorchLearner):
        def train(self, *arguments):
            trained = super().train(*arguments)
            return dataclasses.replace(trained, blob=trained.blob[:-9])

    strange = [("[1]", {}), ("{", {"update": b""}), ('{"lacks": "a joke"}', {}), ('{"loss": 1e999}', {"update": b"x"})]

    def stranger(text, blobs):
        hello = json.loads(text)["task"] == "hello"
        return ('{"client": 3, "trainer": "?"}', {}) if hello else strange.pop()

    with federation(tmp_path, monkeypatch) as nodes:
        nodes.join(0)
        nodes.join(1, Fails)
        nodes.join(2, Garbage)
        nodes.join(3, answer=stranger)
        _, rows = train(tmp_path / "run", nodes.superlink(), clients=4, rounds=4)
    for client, words in ((1, "ZeroDivisionError"), (2, "the update"), (3, "the node's answer")):
        mine = [row for row in rows if row["client"] == client]
        assert len(mine) == 4 and all(row["status"] == "refused" and words in row["reason"] for row in mine), mine
        assert all(row["reason"].isprintable() for row in mine)
    assert [row["updates"] for row in rows if row["client"] is None] == [1] * 4


def test_a_node_that_dies_and_comes_back_in_a_round_is_asked_again(tmp_path, monkeypatch, local):
    died = []

    class Dies(TorchLearner):
        def train(self, task, download, held, state):
            if task.base_round == 1 and not died:
                died.append(task.client)
                node.closing.set()  # no more heartbeats, and its place is not given back: as kill -9 leaves it
                threading.Timer(0.5, nodes.join, (1,)).start()
                raise SystemExit
            return super().train(task, download, held, state)

    with federation(tmp_path, monkeypatch) as nodes:
        nodes.join(0)
        node = nodes.join(1, Dies)
        model, _ = train(tmp_path / "flower", nodes.superlink())
    assert died and model == local


def test_a_node_speaks_for_its_own_client_alone(tmp_path, monkeypatch):
    """Neither by its answer to who it is, nor by what its update says; nor does one of a name that is no client's."""

    class Other(TorchLearner):
        def train(self, *arguments):
            trained = super().train(*arguments)
            tensors, meta = unpack(trained.blob)
            return dataclasses.replace(trained, blob=pack(tensors, meta | {"client": 0}))

    with federation(tmp_path, monkeypatch, clients=4) as nodes:
        nodes.stop()
        for kind in ("key", "pub"):
            (nodes.keys / f"nodes/client-3.{kind}").rename(nodes.keys / f"nodes/pi.{kind}")
        nodes.start()
        nodes.join(0)
        nodes.join(1, Other)
        nodes.join(2, answer=lambda text, blobs: ('{"client": 0, "trainer": "?"}', {}))
        nodes.join(3, key=nodes.keys / "nodes/pi.key")
        _, rows = train(tmp_path / "run", nodes.superlink(patience=1), clients=4, rounds=2)
    second = [row for row in rows if row["round"] == 2 and row["client"] is not None]
    mine = {row["client"]: (row["status"], row["reason"]) for row in second}
    assert mine[0] == ("used", None) and mine[1] == ("refused", "the update says that it is of client 0")
    assert mine[2][0] == mine[3][0] == "dropped"


def test_without_tls_anybody_is_a_client(tmp_path, monkeypatch):
    with federation(tmp_path, monkeypatch, secure=False) as nodes:
        for client in range(2):
            nodes.join(client)
        _, rows = train(tmp_path / "flower", nodes.superlink(), rounds=1)
    assert rows[-1]["updates"] == 2


def test_a_node_that_stays_away_has_dropped_out(tmp_path, monkeypatch):
    with federation(tmp_path, monkeypatch) as nodes:
        nodes.join(0)
        _, rows = train(tmp_path / "flower", nodes.superlink(patience=0.3))
    of = [row for row in rows if row["client"] == 1]
    assert [row["status"] for row in of] == ["dropped"] * 3 and not any(row["bytes_down"] for row in of)


def test_a_superlink_that_is_started_anew_goes_on(tmp_path, monkeypatch, local):
    class Restarts(TorchLearner):
        def train(self, task, download, held, state):
            if task.base_round == 1 and not restarts:
                restarts.append(threading.Thread(target=restart))
                restarts[0].start()
            return super().train(task, download, held, state)

    def restart():
        nodes.stop()
        nodes.start()

    restarts = []
    with federation(tmp_path, monkeypatch) as nodes:
        nodes.join(0)
        nodes.join(1, Restarts)
        model, rows = train(tmp_path / "flower", nodes.superlink())
        restarts[0].join()
    assert model == local
    assert [row["round"] for row in rows if row["client"] is None] == [1, 2, 3]


@pytest.mark.slow
def test_a_client_that_lost_its_files_gets_all_weights(tmp_path, monkeypatch, local):
    class Forgets(TorchLearner):
        def train(self, task, download, held, state):
            forgotten.append((task.base_round, held is None))
            result = super().train(task, download, held, state)
            threading.Timer(0.1, forget).start()
            return result

    def forget():
        for path in (tmp_path / "client-1").glob("*/round-*.safetensors"):
            path.unlink()

    forgotten = []
    with federation(tmp_path, monkeypatch) as nodes:
        nodes.join(0)
        nodes.join(1, Forgets)
        model, _ = train(tmp_path / "flower", nodes.superlink())
    assert model == local
    assert forgotten == [(0, True), (1, True), (2, True)]


def test_one_may_stop_and_resume(tmp_path, monkeypatch):
    """The process that trains is what a checkpoint is of; nodes may have gone further, and train a round again."""

    class Stops(TorchLearner):
        def train(self, task, download, held, state):
            result = super().train(task, download, held, state)
            if task.base_round == 1 and not stopped:
                stopped.append(True)
                _thread.interrupt_main()
            return result

    stopped, options = [], {"codec": "int8"}
    with federation(tmp_path, monkeypatch) as nodes:
        nodes.join(0)
        nodes.join(1, Stops)
        with pytest.raises(KeyboardInterrupt, match="--resume"):
            train(tmp_path / "flower", nodes.superlink(), **options)
        run_training(None, tmp_path / "flower", quiet=True, superlink=nodes.superlink())
    model, rows = read(tmp_path / "flower")
    assert model == train(tmp_path / "local", **options)[0]
    assert [row["round"] for row in rows if row["client"] is None] == [1, 2, 3]
