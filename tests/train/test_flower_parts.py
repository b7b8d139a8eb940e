"""Keys, messages, what a client keeps, and who is let in, each by itself."""

import asyncio
import dataclasses
import json
import math
import os
import stat

import httpx
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from superlinks import federation

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.train.engines.flower import fleet, messages
from fedgate.train.engines.flower.keys import make_keys, private_key, registered_nodes
from fedgate.train.engines.flower.superlink import is_loopback, make_app
from fedgate.train.engines.flower.torch_learner import local_plan_of
from fedgate.train.engines.flower.worker import Trained, Worker
from fedgate.train.local.client import LocalPlan

PLAN = LocalPlan(densities=(0.5, 1.0), epochs=1, batch_size=8, lr=0.1, seed=2**62 + 1)
TASK = messages.Task(
    client=3,
    run={"run": "abc"},
    plan=json.loads(json.dumps(dataclasses.asdict(PLAN))),
    base_round=4,
    base_hash="0" * 64,
    held=None,
)


def test_private_keys_are_their_owners_alone(tmp_path):
    os.umask(0o000)
    made = make_keys(tmp_path / "keys", ["pi.local", "10.0.0.1"], ["client-0"])
    private = {path.name for path in made if stat.S_IMODE(path.stat().st_mode) == 0o600}
    assert private == {"ca.key", "server.key", "client-0.key"} == {p.name for p in made if p.suffix == ".key"}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    before = {path: path.read_bytes() for path in made}
    assert make_keys(tmp_path / "keys", nodes=["client-0"]) == []
    assert {path: path.read_bytes() for path in made} == before
    (tmp_path / "keys/ca.key").chmod(0o640)
    with pytest.raises(FedgateError, match="chmod 600"):
        private_key(tmp_path / "keys/ca.key")


def test_the_certificate_is_the_authoritys_for_its_hosts(tmp_path):
    make_keys(tmp_path, ["pi.local", "10.0.0.1"])
    authority, server = (
        x509.load_pem_x509_certificate((tmp_path / name).read_bytes()) for name in ("ca.crt", "server.crt")
    )
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "pi.local"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1", "10.0.0.1"]
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("name", ["../evil", "", "pi", "client-", "client-03", "client-1/x", "client-1\n", "client-²"])
def test_a_nodes_name_is_its_clients(tmp_path, name):
    with pytest.raises(UsageError, match="no name of a node"):
        make_keys(tmp_path, nodes=[name])


def test_a_public_key_lets_its_node_in(tmp_path):
    make_keys(tmp_path, nodes=["client-0", "client-12"])
    assert list(registered_nodes(tmp_path)) == ["client-0", "client-12"]
    (tmp_path / "nodes/bad.pub").write_text("ssh-nothing")
    with pytest.raises(FedgateError, match=r"bad\.pub is no public key"):
        registered_nodes(tmp_path)


def test_messages_round_trip():
    assert messages.read_task(messages.write_task(TASK)) == TASK
    assert messages.read_task(messages.hello()) is None
    assert messages.read_hello(messages.hello_answer(2, "torch")) == (2, "torch")
    assert local_plan_of(json.loads(messages.write_task(TASK))["plan"]) == PLAN
    figures = {"loss": math.nan, "accuracy": 0.1 + 0.2, "cpu_seconds": 1e-9, "seconds": 3.0}
    read = messages.read_answer(*messages.write_answer(messages.Answer(b"blob", figures)))
    assert read.update == b"blob" and math.isnan(read.figures.pop("loss"))
    assert read.figures == {key: figures[key] for key in read.figures}
    for said in (messages.Answer(lacks="held"), messages.Answer(error="no \x07 disk")):
        read = messages.read_answer(*messages.write_answer(said))
        assert read.lacks == said.lacks and (read.error or "").isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KNOWN = ("task", "client", "run", "plan", "base_round", "held", "trunk", "loss", "lacks", "error", "accuracy")
TEXTS = st.text(max_size=30) | st.dictionaries(st.sampled_from(KNOWN), JSON).map(json.dumps)


@given(TEXTS, st.dictionaries(st.sampled_from(("update", "download", "x")), st.binary(max_size=20)))
def test_nothing_that_a_stranger_says_is_more_than_an_error(text, blobs):
    for read, said in (
        (messages.read_answer, (text, blobs)),
        (messages.read_task, (text,)),
        (messages.read_hello, (text,)),
    ):
        try:
            read(*said)
        except FedgateError as error:
            assert "\x1b" not in str(error)


@given(TEXTS, st.sampled_from(sorted(dataclasses.asdict(TASK))), JSON, st.binary(max_size=20))
def test_a_node_answers_whatever_it_is_told(tmp_path_factory, text, name, value, blob):
    def learner(document, client, trunk):
        raise FedgateError("no run")

    worker = Worker(3, tmp_path_factory.getbasetemp() / "worker", "test", learner)
    changed = json.dumps(json.loads(messages.write_task(TASK)) | {name: value})
    for said in (text, changed):
        messages.canonical_json(json.loads(worker.answer(said, {"download": blob})[0]))


@pytest.mark.parametrize("change", [{"lr": "0.1"}, {"seed": None}, {"level": "x"}, {"more": 1}, {"epochs": 1.5}])
def test_a_plan_of_other_types_is_refused(change):
    with pytest.raises(FedgateError, match=f"the plan.*{next(iter(change))}"):
        local_plan_of(TASK.plan | change)


class Counts:
    """A learner without torch: its weights are the round's number."""

    def __init__(self, document, client, trunk):
        self.seen = []

    def train(self, task, download, held, state):
        self.seen.append((held, state))
        weights = {"w": np.full(2, task.base_round, np.float32)}
        figures = dict.fromkeys(messages.FIGURES, 0.0)
        return Trained(b"blob", {"own": np.array([task.base_round])}, weights, figures)


def test_a_client_keeps_rounds_until_the_server_names_a_later_one(tmp_path):
    worker = Worker(3, tmp_path, "test", Counts)

    def ask(round_, held):
        task = dataclasses.replace(TASK, base_round=round_, held=held)
        return json.loads(worker.answer(messages.write_task(task), {"download": b""})[0])

    def kept():
        return sorted(int(path.stem[6:]) for path in tmp_path.glob("abc/round-*"))

    assert "loss" in ask(0, None) and worker.learner.seen.pop() == (None, {})
    assert "loss" in ask(1, 0) and kept() == [0, 1]
    held, state = worker.learner.seen.pop()
    assert held["w"].tolist() == [0, 0] and state["own"].tolist() == [0]
    ask(2, 0)  # the update to 1 was not used
    assert kept() == [0, 1, 2]
    ask(3, 2)
    assert kept() == [2, 3]
    assert ask(4, 1) == {"lacks": "held"}
    (tmp_path / "abc/round-00003.safetensors").write_bytes(b"torn")
    assert ask(4, 3) == {"lacks": "held"}


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_what_is_this_machine(address):
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["10.0.0.7", "::ffff:10.0.0.7", "", "localhost.evil", "fe80::1"])
def test_what_is_another_machine(address):
    assert not is_loopback(address)


def test_other_machines_reach_what_is_for_nodes_alone():
    """The other two interfaces ask nobody who they are: with them anybody could register a node, or start a run."""
    app, _ = make_app(None)

    async def status(path, peer):
        transport = httpx.ASGITransport(app, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://superlink") as client:
            headers = {"content-type": "application/x-protobuf"}
            return (await client.post(path, content=b"", headers=headers)).status_code

    def asked(path, peer):
        return asyncio.run(status(path, peer))

    for path in ("/v1/control/register-node", "/v1/control/start-run", "/v1/runtime/acquire-task", "/docs", "/health"):
        assert asked(path, "10.0.0.7") == 403, path
        assert asked(path, "127.0.0.1") != 403, path
    assert asked("/v1/fleet/activate-node", "10.0.0.7") != 403


def test_a_node_that_is_not_registered_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(fleet, "PATIENCE", 0.2)
    with federation(tmp_path, monkeypatch, clients=1) as nodes:
        stranger = ec.generate_private_key(ec.SECP384R1())
        with pytest.raises(fleet.RefusedError, match="refuses this node's key"):
            fleet.Fleet(nodes.address, nodes.certificate, stranger, tmp_path / "place").serve(None)
        make_keys(tmp_path / "other")
        other = (tmp_path / "other/ca.crt").read_bytes()
        known = private_key(nodes.keys / "nodes/client-0.key")
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            fleet.Fleet(nodes.address, other, known, tmp_path / "place").join()
