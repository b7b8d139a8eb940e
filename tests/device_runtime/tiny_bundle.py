"""Builds the bundle that the tests run: a little gated network in eager torch, and its programs for every runtime."""

import copy
import functools
import io
import json
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedgate.device_runtime.formats.bundle import Bundle, write_bundle
from fedgate.device_runtime.formats.macs import Layer, gated, open_count
from fedgate.device_runtime.formats.records import REFERENCE_META, SALIENCE_META
from fedgate.device_runtime.formats.tensors import pack

DENSITIES = (0.25, 0.5)
LABELS = ("ant", "bee", "cat", "dog", "eel")
LAYERS = (
    Layer("stem", "conv", 3, 8, (3, 3), (8, 8)),
    Layer("one", "conv", 8, 16, (3, 3), (8, 8), gate=True),
    Layer("two", "conv", 16, 24, (3, 3), (8, 8), gate=True, input_gate="one"),
    Layer("head", "linear", 24, 5, (1, 1), (1, 1), input_gate="two"),
)


class Gate(nn.Module):
    """open = rank < k and g > 0 with g = relu(W mean|x| + b); ranks compare every pair, ties go to the lower index."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.predict = nn.Linear(inputs, outputs)
        nn.init.normal_(self.predict.weight, std=1.0)
        nn.init.ones_(self.predict.bias)
        self.register_buffer("k", torch.tensor([[float(open_count(d, outputs))] for d in DENSITIES]))
        self.register_buffer("index", torch.arange(len(DENSITIES), dtype=torch.int32))
        self.register_buffer("lower", torch.ones(outputs, outputs).tril(-1).bool())

    def forward(self, x, level):
        k = (level.reshape(-1, 1) == self.index).to(x.dtype) @ self.k
        g = torch.relu(self.predict(x.abs().mean((2, 3))))
        before = (g[:, None, :] > g[:, :, None]) | ((g[:, None, :] == g[:, :, None]) & self.lower)
        return g, (before.to(x.dtype).sum(-1) < k) & (g > 0)


class Masked(nn.Module):
    """image, level -> logits, open, and the gates' values when `values` is set."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one, self.two = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 24, 3, padding=1)
        self.gate_one, self.gate_two = Gate(8, 16), Gate(16, 24)
        self.head = nn.Linear(24, 5)
        self.values = False

    def forward(self, image, level):
        x = torch.relu(self.stem(image))
        values, masks = [], []
        for conv, gate in ((self.one, self.gate_one), (self.two, self.gate_two)):
            g, mask = gate(x, level)
            x = torch.relu((g * mask.to(x.dtype))[:, :, None, None] * conv(x))
            values.append(g)
            masks.append(mask)
        outputs = self.head(x.mean((2, 3))), torch.cat(masks, 1).to(torch.uint8)
        return (*outputs, torch.cat(values, 1)) if self.values else outputs


class Plain(nn.Module):
    """image -> logits, with `one` and `two` of the given widths and no gates."""

    def __init__(self, one, two):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, one, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(one, two, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(two, 5)

    def forward(self, image):
        return self.head(self.body(image).mean((2, 3)))


def to_litert(module, inputs):
    import litert_torch

    channels_last = (inputs[0].permute(0, 2, 3, 1).contiguous(), *inputs[1:])
    program = litert_torch.convert(litert_torch.to_channel_last_io(module, args=[0]), channels_last)
    with tempfile.TemporaryDirectory() as folder:
        program.export(f"{folder}/program.tflite")
        return Path(f"{folder}/program.tflite").read_bytes()


def to_executorch(module, inputs):
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(module, inputs)
    return bytes(to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch().buffer)


def to_onnx(module, inputs):
    names = ["image", "level"][: len(inputs)], ["logits", "open"][: len(inputs)]
    program = torch.onnx.export(module, inputs, dynamo=True, input_names=names[0], output_names=names[1], verbose=False)
    buffer = io.BytesIO()
    program.save(buffer)
    return buffer.getvalue()


RUNTIMES = {"litert": (to_litert, "tflite"), "executorch": (to_executorch, "pte"), "onnx": (to_onnx, "onnx")}


def entry(file, runtime, role, level):
    """A program's manifest entry, without hash and size."""
    nhwc = runtime == "litert"
    shape = [1, 8, 8, 3] if nhwc else [1, 3, 8, 8]
    ports = {
        "image": ("image", shape, "float32", "NHWC" if nhwc else "NCHW"),
        "level": ("level", [1], "int32", None),
        "logits": ("logits", [1, 5], "float32", None),
        "open": ("open", [1, 40], "uint8", None),
    }
    names = (["image", "level"], ["logits", "open"]) if role in ("masked", "skip") else (["image"], ["logits"])
    inputs, outputs = (
        [dict(zip(("name", "shape", "dtype", "layout"), ports[n], strict=True)) for n in side] for side in names
    )
    return {
        "file": file,
        "runtime": runtime,
        "role": role,
        "precision": "fp32",
        "tolerance": 1e-4,
        "level": level,
        "inputs": inputs,
        "outputs": outputs,
        "needs_kernel": False,
        "kernel_layers": [],
    }


@functools.cache
def networks():
    """Modules by (role, level), their weights drawn from one seed."""
    torch.manual_seed(7)
    modules = {("masked", None): Masked(), ("dense", None): Plain(16, 24)}
    for level, density in enumerate(DENSITIES):
        modules["static", level] = Plain(open_count(density, 16), open_count(density, 24))
    return {key: module.eval() for key, module in modules.items()}


@torch.no_grad()
def records(count=4):
    """The bytes of reference.safetensors and salience.safetensors, from eager runs in float64."""
    image = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    modules = {key: copy.deepcopy(module).double() for key, module in networks().items()}
    reference = {
        "image": image.numpy(),
        "dense/logits": modules["dense", None](image.double()).float().numpy(),
    }
    modules["masked", None].values = True
    salience = {"global/samples": np.full(2, count, np.int64)}
    opened = []
    for level in range(len(DENSITIES)):
        logits, mask, g = modules["masked", None](image.double(), torch.tensor([level], dtype=torch.int32))
        reference[f"masked/{level}/logits"] = logits.float().numpy()
        reference[f"masked/{level}/open"] = mask.numpy()
        reference[f"masked/{level}/gate"] = g.float().numpy()
        reference[f"static/{level}/logits"] = modules["static", level](image.double()).float().numpy()
        opened.append((mask.numpy(), (g * mask).numpy()))
    start = 0
    for layer in gated(LAYERS):
        columns = slice(start, start := start + layer.out_channels)
        salience[f"global/opened/{layer.name}"] = np.stack([m[:, columns].sum(0, np.int64) for m, _ in opened])
        salience[f"global/strength/{layer.name}"] = np.stack([p[:, columns].sum(0) for _, p in opened])
    return pack(reference, REFERENCE_META), pack(salience, SALIENCE_META)


def fields(programs):
    """The manifest's fields for these program entries."""
    return {
        "model": "tiny",
        "gate": "paper",
        "width": 1.0,
        "dataset": "made-up",
        "labels": list(LABELS),
        "input": {"shape": [1, 3, 8, 8], "layout": "NCHW", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
        "densities": list(DENSITIES),
        "default_level": 1,
        "layers": [layer.to_json() for layer in LAYERS],
        "training": {"rounds": 3, "accuracy": 0.5, "algorithm": "fedavg"},
        "programs": programs,
    }


@torch.no_grad()
def build(path) -> Bundle:
    """Convert dense and masked programs for every runtime, static ones for LiteRT, and write the bundle."""
    logging.disable(logging.WARNING)
    image, level = torch.randn(1, 3, 8, 8), torch.tensor([1], dtype=torch.int32)
    programs, files = [], dict(zip(("reference.safetensors", "salience.safetensors"), records(), strict=True))
    try:
        for runtime, (convert, suffix) in RUNTIMES.items():
            for (role, fixed), module in networks().items():
                if role == "static" and runtime != "litert":
                    continue
                file = f"{runtime}-{role}{'' if fixed is None else fixed}.{suffix}"
                files[file] = convert(module, (image, level) if role == "masked" else (image,))
                programs.append(entry(file, runtime, role, fixed))
    finally:
        logging.disable(logging.NOTSET)
    return write_bundle(path, fields(programs), files)


def raw_fields(bundle: Bundle) -> dict:
    return json.loads((bundle.path / "manifest.json").read_text())


def contents(bundle: Bundle) -> dict:
    """Every file of a bundle but the manifest, as `write_bundle` takes them."""
    return {name: bundle.path / name for name in os.listdir(bundle.path) if name != "manifest.json"}


def rewrite(bundle: Bundle, path, changes: dict, files: dict) -> Bundle:
    """The bundle again at `path`, with manifest fields and file contents replaced."""
    return write_bundle(path, {**raw_fields(bundle), **changes}, {**contents(bundle), **files})


def program(bundle, runtime, role, level=None):
    """The one program of a runtime and a role."""
    (found,) = (p for p in bundle.manifest.programs if (p.runtime, p.role, p.level) == (runtime, role, level))
    return found
