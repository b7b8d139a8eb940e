"""The `loop` engine: all clients of a run on this machine, one after the other or shared among worker processes.

Each task computes with one thread, also with one worker and in evaluation, so that any number of workers gives the
same bytes. A task starts from nothing but the server's tensors and a seed.
"""

import contextlib
import functools
import multiprocessing.connection
import operator
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker

import torch
from tqdm import tqdm

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.update import UpdateSpec, apply_download
from fedgate.device_runtime.formats.uploads import encode_upload, weights

from ..local.client import LocalPlan, train_locally
from ..local.evaluation import Evaluation, chunks, evaluate
from ..local.norms import encode, measure
from ..local.teacher import Teacher
from ..network.build import load_tensors, network_tensors
from ..server.checkpoint import ClientState
from ..server.engine import TaskResult


class Trainer:
    """One network and the data, in whichever process: trains a client or evaluates a chunk of the test set."""

    def __init__(self, network, data, parts, precision, teacher=None):
        """teacher: the network that clients distil from and the statistics that it was trained by, or None."""
        self.network = network.to(memory_format=torch.channels_last)
        self.data, self.parts, self.precision = data, parts, precision
        self.statistics = (data.mean, data.std)
        self.teacher = teacher and Teacher(*teacher, self.statistics)
        self.base = self.base_hash = None  # what the last download led to

    def train(self, client, download, held, spec: UpdateSpec, plan: LocalPlan, state: ClientState) -> TaskResult:
        started, cpu = time.perf_counter(), time.process_time()
        base = self.start(download, held, spec)
        load_tensors(self.network, weights(base), partly=True)  # what is frozen does not travel
        result = train_locally(self.network, *self.examples(client), self.statistics, plan, base, state, self.teacher)
        return self.send(client, result, spec, base, plan, state, started, cpu)

    def examples(self, client):
        """A client's own: images uint8 (n, C, H, W) and labels int64 (n,)."""
        chosen = torch.from_numpy(self.parts[client])
        return self.data.train_images[chosen], self.data.train_labels[chosen]

    def send(self, client, result, spec, base, plan, state, started, cpu) -> TaskResult:
        """The result of a client whose trained network this is; started, cpu: the clocks when it began."""
        count = len(self.parts[client])
        blob, state = encode_upload(network_tensors(self.network), result, spec, base, client, count, plan, state)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        return TaskResult(client, blob, state, result.loss, result.accuracy, cpu_seconds, seconds)

    def start(self, download, held, spec):
        """What a client has after its download, worked out once for all clients that begin with the same."""
        if self.base_hash != spec.base_hash:
            self.base, self.base_hash = apply_download(download, spec, held), spec.base_hash
        return self.base

    def evaluate(self, tensors, densities, part, split="test") -> Evaluation:
        """part: a slice or an index array of the images of a split, "test" or "train"."""
        load_tensors(self.network, tensors)
        self.network.set_densities(densities)
        images, labels = getattr(self.data, f"{split}_images")[part], getattr(self.data, f"{split}_labels")[part]
        return evaluate(self.network, images, labels, self.statistics, self.precision, len(self.data.labels))

    def measure_norms(self, client, tensors, densities, levels, run, round_):
        """The blob with what the norms of some levels read on a client's examples (see `local.norms`)."""
        load_tensors(self.network, tensors)
        self.network.set_densities(densities)
        images, _ = self.examples(client)
        return encode(measure(self.network, images, self.statistics, levels), run, round_, client, len(images))

    def finetune(self, client, tensors, plan: LocalPlan, chosen):
        """Fine-tune on a client's examples; (before, after), the `Evaluation`s on the test images `chosen`."""
        before = self.evaluate_chosen(tensors, plan.densities, chosen)
        train_locally(self.network, *self.examples(client), self.statistics, plan)
        return before, self.evaluate_chosen(network_tensors(self.network), plan.densities, chosen)

    def evaluate_chosen(self, tensors, densities, chosen):
        parts = [self.evaluate(tensors, densities, chosen[part]) for part in chunks(len(chosen))]
        return functools.reduce(operator.add, parts)


class LoopEngine:
    """An `Engine` that runs tasks on one `Trainer` in this process, or on one in each of several worker processes.

    build: makes the network; a picklable callable, as workers build their own. teacher: likewise, of a `Trainer`'s.
    """

    def __init__(self, build, data, parts, precision, workers=1, teacher=None):
        torch.set_num_threads(1)
        self.pool = self.trainer = None
        self.workers = workers
        self.test_count = len(data.test_labels)
        if workers == 1:
            self.trainer = Trainer(build(), data, parts, precision, teacher and teacher())
        else:
            context = torch.multiprocessing.get_context("spawn")
            resource_tracker.ensure_running()  # starting it later would lift `no_interrupts`
            arguments = (build, data, parts, precision, teacher)
            self.pool = ProcessPoolExecutor(workers, context, initializer=start_worker, initargs=arguments)

    def train(self, tasks):
        """As in `Engine`; the `TaskResult`s come in the order of the tasks."""
        arguments = [
            (task.client, task.download, task.base, task.broadcast.spec, task.plan, task.state) for task in tasks
        ]
        yield from self._map("train", arguments)

    def evaluate(self, tensors, densities, trained=None) -> Evaluation:
        """Evaluate the whole test set, or the training images `trained` (indices), each level at its density."""
        if trained is None:
            arguments = [(tensors, densities, part) for part in chunks(self.test_count)]
        else:
            arguments = [(tensors, densities, trained[part], "train") for part in chunks(len(trained))]
        return functools.reduce(operator.add, self._map("evaluate", arguments))

    def measure_norms(self, levels, tensors, densities, run, round_):
        """As in `Engine`."""
        arguments = [(client, tensors, densities, own, run, round_) for client, own in levels.items()]
        return self._map("measure_norms", arguments)

    def finetune(self, tensors, plans, chosen):
        """Fine-tune each client from `tensors`; yields (before, after), its `Evaluation`s on its test images.

        plans: each client's `LocalPlan`. chosen: indices of each client's test images.
        """
        clients = enumerate(zip(plans, chosen, strict=True))
        arguments = [(client, tensors, plan, images) for client, (plan, images) in clients]
        yield from self._map("finetune", arguments)

    def _map(self, method, arguments):
        if self.trainer:
            for each in arguments:
                yield getattr(self.trainer, method)(*each)
            return
        with no_interrupts():  # a worker starts when a task is submitted
            futures = [self.pool.submit(run_tasks, method, part) for part in portions(arguments, self.workers)]
        try:
            for future in futures:
                yield from future.result()
        except BrokenProcessPool as error:
            raise FedgateError("a worker process died (out of memory?); continue with --resume") from error

    def close(self, at_once=False):
        """Stop the workers: when they are idle, or at once, whatever they are doing."""
        if self.pool:
            if at_once:
                for process in (self.pool._processes or {}).values():
                    process.terminate()
            self.pool.shutdown(wait=True, cancel_futures=True)


_trainer = None  # a worker process's own


def start_worker(build, data, parts, precision, teacher):
    global _trainer
    threading.Thread(target=exit_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # torch.fx makes a bar, whose own semaphore would outlive a stopped worker
    _trainer = Trainer(build(), data, parts, precision, teacher and teacher())


@contextlib.contextmanager
def no_interrupts():
    """Hold Ctrl-C back, and have processes that are started meanwhile never see it.

    It reaches the whole process group, and the parent decides what becomes of its workers. A worker that blocked it
    only once it runs would be hit while it still imports.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def exit_with_parent():
    """A worker whose parent was killed would wait for its next task for ever."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def portions(tasks, workers):
    """Tasks in portions for workers to fetch, ever smaller ones, so that all workers end at about the same time.

    What the tasks of a portion have in common, such as the weights that they start from, travels once.
    """
    while tasks:
        count = -(-len(tasks) // (4 * workers))
        yield tasks[:count]
        tasks = tasks[count:]


def run_tasks(method, portion):
    return [getattr(_trainer, method)(*arguments) for arguments in portion]
