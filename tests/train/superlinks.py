"""A SuperLink over TLS and nodes of it in threads of this process, for tests: everything real but the machines."""

import contextlib
import logging
import socket
import threading
import time
from pathlib import Path

import uvicorn

from fedgate.train.engines.flower import engine, fleet
from fedgate.train.engines.flower.keys import make_keys, private_key
from fedgate.train.engines.flower.superlink import make_app
from fedgate.train.engines.flower.torch_learner import TorchLearner
from fedgate.train.engines.flower.worker import Worker

ONE = threading.Lock()  # torch's random numbers are the process's


class Federation:
    """keys: the folder of `make_keys`; certificate: PEM bytes of its authority."""

    def __init__(self, folder, clients=4, secure=True):
        self.folder, self.keys = Path(folder), Path(folder) / "keys" if secure else None
        if secure:
            make_keys(self.keys, nodes=[f"client-{client}" for client in range(clients)])
        self.certificate = (self.keys / "ca.crt").read_bytes() if secure else None
        self.nodes, self.server = {}, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.start()

    def start(self):
        """Start a SuperLink that knows nothing of an earlier one."""
        app, certificates = make_app(self.keys)
        config = uvicorn.Config(app, port=self.port, log_level="error", timeout_graceful_shutdown=1, **certificates)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)

    def stop(self):
        self.server.should_exit = True
        self.thread.join()

    def superlink(self, **options):
        return engine.Superlink(self.address, self.certificate, **options)

    def join(self, client, learner=TorchLearner, answer=None, key=None):
        """Start a node; answer: instead of a worker's. Returns the `Fleet`."""
        work = self.folder / f"client-{client}"
        worker = Worker(client, work, "test", learner)
        if self.keys is not None:
            key = private_key(key or self.keys / "nodes" / f"client-{client}.key")
        node = fleet.Fleet(self.address, self.certificate, key, work / "place.json")

        def one_at_a_time(text, blobs):
            with ONE:
                return (answer or worker.answer)(text, blobs)

        def serve():
            with contextlib.suppress(SystemExit):
                node.serve(one_at_a_time)

        threading.Thread(target=serve, daemon=True).start()
        self.nodes[client] = node
        return node

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.nodes.values():
            node.close()
        self.stop()


@contextlib.contextmanager
def federation(folder, monkeypatch, clients=4, secure=True):
    """A `Federation` whose parts do not wait long for one another."""
    for module, name, seconds in ((engine, "POLL", 0.05), (engine, "LOOK", 0.3), (engine, "RETRY", 0.2)):
        monkeypatch.setattr(module, name, seconds)
    monkeypatch.setattr(fleet, "POLL", 0.05)
    monkeypatch.setattr(fleet, "RETRIES", (0.2,))
    logging.getLogger("fedgate").setLevel(logging.ERROR)
    with Federation(folder, clients, secure) as made:
        yield made
