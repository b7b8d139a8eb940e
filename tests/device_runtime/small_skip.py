"""A little `skip` network for the runtimes' sides of the operator, its inputs, and what eager torch makes of them."""

import json
import subprocess
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fedgate.export.skip import kernel_layers, skip_network
from fedgate.train.network.build import gate_network

SHAPE = (3, 8, 8)
DENSITIES = (0.25, 0.5)
IMAGES = np.random.default_rng(0).normal(size=(8, *SHAPE)).astype(np.float32)


class Small(nn.Module):
    """A stem and two gated convolutions; the second takes a residual, a ReLU and a maximum along."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two = (
            nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out))
            for c_in, c_out in ((3, 8), (8, 12), (12, 8))
        )
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(x + self.two(F.relu(self.one(x))))
        return self.head(self.pool(x).mean((2, 3)))


@torch.no_grad()
def network():
    """The network in eager torch, with norms and gates drawn."""
    torch.manual_seed(0)
    gated = gate_network(Small(), SHAPE, "paper", DENSITIES).eval()
    for unit in gated.units.values():
        for norm in unit.norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
        if unit.gate is not None:
            unit.gate.predictor.weight.normal_(std=0.5)
            unit.gate.predictor.bias.uniform_(0.0, 1.0)
    body = skip_network(gated, wanted=lambda layer: True)
    assert len(kernel_layers(body)) == 3
    return body


@torch.no_grad()
def expected(network):
    """(logits, open) of every level and image."""
    levels = [torch.tensor([level], dtype=torch.int32) for level in range(len(DENSITIES))]
    rows = [network(torch.from_numpy(IMAGES), level) for level in levels]
    logits, masks = (torch.stack(part).numpy() for part in zip(*rows, strict=True))
    assert 0 < masks[0].sum() < masks[1].sum() < masks[1].size  # levels differ, and neither opens all
    assert (masks != masks[:, :1]).any()  # and so do images
    return logits, masks


def assert_same(got, want):
    assert np.array_equal(got[1], want[1])
    assert np.abs(got[0] - want[0]).max() <= 1e-5 * np.abs(want[0]).max()


LEVELS = (-1, len(DENSITIES), 2**31 - 1, -(2**31))
# A job is [name, file, level].
LOOP = """
import json, sys
import numpy as np
for name, file, level in json.load(sys.stdin):
    print(json.dumps([name, None]), flush=True)
    error = ""
    try:
        run(file, level)
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    print(json.dumps([name, error]), flush=True)
"""


def wrong_errors(run, library, blob, damaged, damage, folder):
    """Load and run a file: whole, at levels that there are not, and damaged; name -> error, of those that surprise.

    run: the code of a function run(file, level), which finds `library` in sys.argv[1]. damaged(blob, change): the file
    with a change made. damage: name -> (change, what the error must tell). A copy without a change must run, since
    refusals could otherwise be those of the copying.
    """
    changes = {"whole": (lambda model: None, ""), **damage}
    jobs = [(f"level {level}", "whole", level) for level in LEVELS] + [(name, name, 0) for name in changes]
    files = {name: folder / f"{i}.program" for i, name in enumerate(changes)}
    for name, (change, _) in changes.items():
        files[name].write_bytes(damaged(blob, change))
    found = errors_elsewhere(run + LOOP, [library], [(name, str(files[file]), level) for name, file, level in jobs])
    reasons = {name: reason for name, (_, reason) in damage.items()}
    reasons |= {f"level {level}": f"level {level} is not one of 0 to 1" for level in LEVELS}
    wrong = {name: error for name, error in found.items() if reasons.get(name, "") not in error}
    return wrong if found["whole"] == "" else {"whole": found["whole"], **wrong}


def errors_elsewhere(code, arguments, jobs):
    """name -> the error of each job, "" for none; all in one other process, since a damaged file may crash it.

    code: reads [[name, ...], ...] and writes a line [name, null] before each and [name, its error or ""] behind it.
    """
    found = {}
    while jobs:  # once, unless it crashes
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, timeout=120)
        lines = dict(map(json.loads, done.stdout.splitlines()))
        assert lines, done.stderr
        found |= {name: f"died with {done.returncode}" if e is None else e for name, e in lines.items()}
        jobs = jobs[len(lines) :]
    return found
