"""A client's training without torch: the tail of a bundle, on a runtime, over a folder of images by label."""

import time

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.bundle import load_bundle
from fedgate.device_runtime.tuning.client import TailClient

from .worker import Trained, log


class TailLearner:
    """See `worker`. The trunk runs over the images once; its features are kept in `work`."""

    def __init__(self, document, bundle, data, work, runtime=None, threads=1):
        config = document.get("config")
        trains = config.get("trainable") if isinstance(config, dict) else None
        if trains in (None, "all"):
            raise FedgateError("this node trains the tail of a bundle: start the run with --trainable and --base")
        self.client = TailClient(load_bundle(bundle), data, work, runtime, threads=threads)
        for note in self.client.examples.left_out:
            log.warning("%s", note)
        unread = self.client.prepare(skip_unreadable=True)
        if unread:
            log.warning("%d images cannot be read and are left out, %s the first", len(unread), unread[0])

    def close(self):
        self.client.close()

    def train(self, task, download, held, state):
        started, cpu = time.perf_counter(), time.process_time()
        done = self.client.train(task.client, download, held, task.plan, state)
        figures = {"loss": done.loss, "accuracy": done.accuracy}
        figures |= {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - started}
        return Trained(done.blob, done.state, done.held, figures)
