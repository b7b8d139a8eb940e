"""The `flower` engine: a round's clients train on the nodes of a SuperLink; the server evaluates here.

Which node is which client is what nodes say of themselves, once; one with a key is client N only if it is registered
as client-N. A node that vanishes is waited for, and asked again when it comes back; one that stays away for longer than
`patience` has dropped out of the round. The SuperLink may vanish too: it is waited for, a new Flower run is started,
and who has not answered in this round is asked again.
"""

import dataclasses
import logging
import time
from dataclasses import dataclass

import numpy as np

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.tensors import pack, tensors_hash
from fedgate.device_runtime.formats.uploads import HELD

from ...server.engine import NoResult, TaskResult
from ...server.plans import expected_updates
from ..loop import LoopEngine
from . import messages
from .link import Link
from .transport import LinkLostError

POLL = 0.5
LOOK = 3.0  # seconds between two looks at who is online
RETRY = 5.0

log = logging.getLogger("fedgate.server")


@dataclass(frozen=True)
class Superlink:
    """Where the nodes are, and how long to wait for them.

    address: HOST:PORT. certificate: PEM bytes of the authority to trust, None for no TLS. patience: seconds that a
    round waits for a node that is not there; timeout: for one that does not answer.
    """

    address: str
    certificate: bytes | None = None
    patience: float = 60.0
    timeout: float = 3600.0


@dataclass
class Asked:
    """A task on its way. node: its id and when it came online; sent: bytes so far; full: all that it may lack."""

    node: tuple
    message: str
    until: float
    sent: int
    full: frozenset = frozenset()


class FlowerEngine(LoopEngine):
    def __init__(self, build, data, parts, precision, workers, info, superlink, frozen=None):
        """info: the run's; frozen: all tensors of a network of which a part is frozen. Others as in `LoopEngine`."""
        super().__init__(build, data, parts, precision, workers)
        self.document, self.superlink = messages.run_document(info), superlink
        self.trunk = None if frozen is None else trunk_blob(info, build(), frozen)
        self.link = None
        self.clients = {}  # of the nodes that have said who they are: (id, since when online) -> client
        self.hellos = {}  # asked, by message
        self.away = set()  # clients that a round has given up on

    def train(self, tasks):
        """As in `Engine`; the results come in the order of the answers."""
        round_ = Round(self, tasks)
        while round_.todo:
            try:
                yield from round_.step()
            except LinkLostError as error:
                self.lose_link(error)
                round_.asked.clear()
                time.sleep(RETRY)
            else:
                time.sleep(POLL if round_.todo else 0)

    def connected(self):
        if self.link is None:
            self.link = Link(self.superlink.address, self.superlink.certificate)
            log.warning("connected to the SuperLink at %s", self.superlink.address)
        return self.link

    def lose_link(self, error):
        log.warning("the SuperLink at %s is lost: %s; waiting for it", self.superlink.address, error)
        if self.link is not None:
            self.link.close()
        self.link, self.clients, self.hellos = None, {}, {}

    def present(self):
        """The nodes of clients that are online: {client: (id, since when)}; asks those not known yet who they are."""
        link = self.connected()
        online = {(node_id, since): name for node_id, (name, since) in link.nodes().items()}
        self.clients = {node: client for node, client in self.clients.items() if node in online}
        if self.hellos:
            for message, said in link.answers(list(self.hellos)).items():
                node = self.hellos.pop(message)
                if node in online and said is not None:  # else it is asked again
                    self.clients[node] = self.introduced(node, online[node], said)
        for node in online:
            if node not in self.clients and node not in self.hellos.values():
                self.hellos[link.ask(node[0], "query", messages.hello(), {}, self.superlink.timeout)] = node
        self.hellos = {message: node for message, node in self.hellos.items() if node in online}
        # of two nodes that say the same, the one that came last: the other is what is left of a killed process
        latest = sorted(self.clients.items(), key=lambda each: each[0][1])
        return {client: node for node, client in latest if client is not None}

    def introduced(self, node, name, said):
        """Which client a node is by its answer to a hello; None for none."""
        try:
            if not isinstance(said, tuple):
                raise FedgateError(said)
            client, trainer = messages.read_hello(said[0])
        except FedgateError as error:
            log.warning("node %s does not say which client it is: %s", name or node[0], error)
            return None
        if name and name != f"client-{client}":  # without keys nodes have no names
            log.warning("node %s says that it is client %d, which is client-%d alone: not taken", name, client, client)
            return None
        log.warning("client %d is there (%s%s)", client, trainer, f", {name}" if name else "")
        return client

    def close(self, at_once=False):
        if self.link is not None:
            self.link.close()
        super().close(at_once)


class Round:
    """The clients of a round that have not answered yet."""

    def __init__(self, engine, tasks):
        self.engine, self.tasks = engine, {task.client: task for task in tasks}
        self.todo, self.asked = set(self.tasks), {}
        self.looked, self.there = -LOOK, {}
        self.seen = dict.fromkeys(self.tasks, time.monotonic())
        self.said = False

    def step(self):
        """Ask whoever is there and was not asked, and take what has come; yields results."""
        now = time.monotonic()
        if now - self.looked >= (LOOK if self.asked.keys() >= self.todo else POLL):
            self.there, self.looked = self.engine.present(), now
            self.engine.away -= self.there.keys()
            yield from self.look(now)
        link = self.engine.connected()
        for client in sorted(self.todo - self.asked.keys()):
            if client in self.there:
                self.ask(link, client)
        if self.asked:
            whose = {asked.message: client for client, asked in self.asked.items()}
            for message, said in link.answers(list(whose)).items():
                yield from self.take(link, whose[message], said)

    def look(self, now):
        """Who was asked and has gone since is to be asked again; who stays away has dropped out."""
        patience, missing = self.engine.superlink.patience, sorted(self.todo - self.there.keys())
        for client in self.todo & self.there.keys():
            self.seen[client] = now
        for client, asked in list(self.asked.items()):
            if self.there.get(client) != asked.node:
                del self.asked[client]
            elif now > asked.until:
                del self.asked[client]
                self.todo.discard(client)
                yield NoResult(client, f"no answer within {self.engine.superlink.timeout:g} s", asked.sent)
        if missing and not self.there:  # a round without anybody is none
            if not self.said:
                log.warning("waiting for the nodes of clients %s", ", ".join(map(str, missing)))
            self.said = True
            self.seen |= dict.fromkeys(missing, now)  # patience begins with the first who is there
            return
        for client in missing:
            if client in self.engine.away or now - self.seen[client] > patience:
                log.warning("client %d is not there: the round goes on without it", client)
                self.engine.away.add(client)
                self.todo.discard(client)
                yield NoResult(client, None)

    def ask(self, link, client, sent=0, full=frozenset()):
        engine, task, spec = self.engine, self.tasks[client], self.tasks[client].broadcast.spec
        held = None if "held" in full else task.held
        blobs = {"download": task.broadcast.blob(held)}
        if engine.trunk and "trunk" in full:
            blobs["trunk"] = engine.trunk.blob
        sent_task = messages.Task(
            client=client,
            run=engine.document,
            plan=dataclasses.asdict(task.plan),
            base_round=spec.base_round,
            base_hash=spec.base_hash,
            held=held,
            trunk=engine.trunk and engine.trunk.sha256,
        )
        node, timeout = self.there[client], engine.superlink.timeout
        message = link.ask(node[0], "train", messages.write_task(sent_task), blobs, timeout)
        sent += sum(map(len, blobs.values()))
        self.asked[client] = Asked(node, message, time.monotonic() + timeout, sent, full)

    def take(self, link, client, said):
        asked = self.asked.pop(client)
        if said is None:  # it went away, and is asked again if it comes back
            self.looked = -LOOK
            return
        try:
            if isinstance(said, str):
                raise FedgateError(said)
            answer = messages.read_answer(*said)
            if answer.lacks is not None and answer.lacks not in asked.full:
                self.ask(link, client, asked.sent, asked.full | {answer.lacks})
                return
            if answer.error or answer.lacks:
                raise FedgateError(f"the client reports: {answer.error or 'it lacks what it was sent'}")
        except FedgateError as error:
            self.todo.discard(client)
            yield NoResult(client, str(error), asked.sent)
            return
        self.todo.discard(client)
        state = {HELD: np.array([self.tasks[client].broadcast.spec.base_round], np.int64)}
        yield TaskResult(client, answer.update, state, **answer.figures, bytes_down=asked.sent)


@dataclass(frozen=True)
class Trunk:
    """The frozen weights of a network, which no download brings, and their hash."""

    blob: bytes
    sha256: str


def trunk_blob(info, network, tensors):
    sent = expected_updates(info, network).parameters
    frozen = {name: value for name, value in tensors.items() if name not in sent}
    sha256 = tensors_hash(frozen)
    return Trunk(pack(frozen, {"format": "fedgate-trunk", "version": 1, "sha256": sha256}), sha256)
