"""Making the programs of a bundle that trains: lowered, and each compared with eager PyTorch."""

import contextlib
import dataclasses
import functools

import numpy as np

from fedgate.device_runtime.engines import load_program
from fedgate.device_runtime.formats.manifest import TAIL_FILE
from fedgate.device_runtime.formats.ports import TAIL_ROLES
from fedgate.device_runtime.formats.records import LABELLED
from fedgate.device_runtime.formats.tail import pack_tail

from .check_tail import compare_inference
from .check_training import compare_training
from .trainable import check_engines, plan_tail_programs
from .training_module import training_module

TRAINED_IMAGES = 64  # from which the steps that are compared draw theirs
LABELLED_IMAGES = 64  # at most, and of one class at most an eighth of it


class TailPrograms:
    """What `--trainable` adds to a bundle. part: a `Trainable`; data: the run's, on which training is compared."""

    def __init__(self, part, data):
        self.part, self.data = part, data

    def fields(self):
        """The manifest's "tail"."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self.part.info).items()}

    def labelled(self):
        """Test images with their labels, for the bundle's reference file: of each class the same number, or all."""
        labels = self.data.test_labels.numpy()
        each = max(1, min(LABELLED_IMAGES // len(self.data.labels), LABELLED_IMAGES // 8))
        own = [np.flatnonzero(labels == one)[:each] for one in range(len(self.data.labels))]
        chosen = np.concatenate(own)[:LABELLED_IMAGES]
        return dict(zip(LABELLED, (self.data.test_images.numpy()[chosen], labels[chosen]), strict=True))

    def make(self, engines, kernel, console, left_out):
        """(manifest entries, files by name); kernel: whether `skip` programs are made.

        left_out: the `LeftOut` that notes an engine which cannot have all of trunk, tail and train: they need each
        other. Raises `FedgateError` where no engine can.
        """
        plans = plan_tail_programs(self.part, kernel)
        entries, files = [], {TAIL_FILE: pack_tail(self.part.tail)}
        for engine in check_engines(engines):
            with left_out.unless_possible(plans[-1].entry(engine)["file"]):
                made, own = self.make_for(engine, plans, console, left_out)
                entries, files = entries + made, files | own
        left_out.refuse_nothing(entries)
        return entries, files

    def make_for(self, engine, plans, console, left_out):
        """The same of one engine."""
        entries, files = [], {}
        for plan in plans:
            program = plan.entry(engine)
            spare = left_out.unless_possible(program["file"]) if plan.needs_kernel else contextlib.nullcontext()
            with console.status(f"lowering {engine} {plan.stem}"), spare:
                files[program["file"]] = plan.lower(engine, self.part.network.shape)
                entries.append(program)
        if engine == "executorch":
            with console.status("lowering executorch train-module"):
                program, own = training_module(self.part)
            entries, files = [*entries, program], files | own
        return entries, files

    def compare(self, staged, images):
        """Yields (program, `Comparison`) for the tail's programs of a staged bundle. Raises `FedgateError`."""
        programs = [p for p in staged.manifest.programs if p.role in TAIL_ROLES]
        for program in programs:
            load = functools.partial(load_program, staged, program)
            if program.role == "trunk":
                result = compare_inference(self.part, images, load())
            elif program.role == "tail":
                (trunk,) = (
                    p for p in programs if (p.engine, p.role, p.needs_kernel) == (program.engine, "trunk", False)
                )
                result = compare_inference(self.part, images, load_program(staged, trunk), load())
            else:
                data = self.data
                examples = data.train_images[:TRAINED_IMAGES], data.train_labels[:TRAINED_IMAGES]
                result = compare_training(self.part, load, *examples, (data.mean, data.std))
            yield program, result
