"""A client of federated rounds without torch: a runtime alone trains the tail.

It speaks the protocol of `train`'s clients: a download blob in, an upload blob out, and a dictionary of arrays that the
client keeps from one round to the next.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..engines.select import choose_level
from ..errors import FedgateError
from ..formats.bundle import Bundle
from ..formats.checks import Fields
from ..formats.ports import parameters
from ..formats.tensors import unpack
from ..formats.update import MOST, apply_download
from ..formats.uploads import weights
from .examples import load_examples
from .features import DONE
from .finetune import tail_channels
from .plan import TunePlan, plan_from_json
from .programs import load_tail_programs
from .state import TailState, initial_state
from .steps import TrainingSet, train
from .trunk_pass import open_features, run_examples
from .update_file import encode_tail_update, start_parameters


@dataclass(frozen=True)
class TailUpload:
    """What a round gave: the blob for the server; what the client keeps, and the weights that it now holds, for the
    next one; means over the last epoch.
    """

    blob: bytes
    state: dict[str, np.ndarray]
    held: dict[str, np.ndarray]
    loss: float
    accuracy: float
    examples: int
    steps: int


class TailClient:
    """A bundle, a runtime and labelled images; the trunk runs over them once, in `prepare`.

    folder: for the features, kept between runs. level: which density it trains, by default the bundle's own. Close it,
    or use it as a context. Raises `UsageError` and `FedgateError` as `finetune` does.
    """

    def __init__(
        self,
        bundle: Bundle,
        data: Path,
        folder: Path,
        runtime: str | None = None,
        level: int | None = None,
        threads: int = 1,
    ):
        self.bundle, self.tail = bundle, bundle.tail()
        self.level = choose_level(bundle.manifest, level, None)
        self.examples = load_examples(data, bundle.manifest)
        self.programs = load_tail_programs(bundle, runtime, threads=threads)
        self.features = open_features(folder, bundle, self.programs, self.examples, self.level)

    def prepare(self, skip_unreadable: bool = False, progress: Callable[[], None] = lambda: None) -> list[str]:
        """Run the trunk over all examples that have no features yet; the names of those that cannot be read."""
        return run_examples(
            self.bundle, self.programs, self.examples, self.features, self.level, skip_unreadable, progress
        )

    def train(self, client: int, download: bytes, held: dict | None, plan: dict | TunePlan, state: dict) -> TailUpload:
        """One round. client: its number. download: the server's blob; held, state: what the last round gave, or None
        and {}. plan: a `TunePlan`, or the server's JSON object with the fields of `train`'s local plans.

        Raises `FedgateError` for a download that is damaged or does not fit, and for a training that diverges.
        """
        if isinstance(plan, dict):
            plan = plan_from_json(plan, self.bundle.manifest, self.level)
        spec = self.spec_of(download)
        base = weights(apply_download(download, spec, held))
        rows = np.flatnonzero(self.features.done == DONE)
        if not len(rows):
            raise FedgateError("this client has no examples: prepare it first")
        examples = TrainingSet(self.features, self.examples.labels, rows)
        trained = self.steps(examples, plan, base)
        blob, state = encode_tail_update(self.bundle, spec, base, trained, plan, client, len(rows), state)
        return TailUpload(blob, state, base, trained.loss, trained.accuracy, len(rows), trained.steps)

    def steps(self, examples: TrainingSet, plan: TunePlan, base: dict) -> TailState:
        """The tail after the plan's epochs from the weights `base`."""
        names = [port.name for port in parameters(self.programs.train.program)]
        state = initial_state(start_parameters(self.tail, base, names), tail_channels(self.bundle))
        while state.epoch < plan.epochs:
            state = deque(train(self.programs.train, examples, plan, state), maxlen=1).pop()
        return state

    def spec_of(self, download: bytes):
        """What updates to the weights of a download look like: its run, its round, and their hash."""
        _, meta = unpack(download, "the download")
        fields = Fields(meta, "the download")
        return replace(
            self.tail.spec,
            run=fields.text("run"),
            base_round=fields.whole("base_round", 0, MOST),
            base_hash=fields.sha256("base_hash"),
        )

    def close(self) -> None:
        self.features.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.features.__exit__()
