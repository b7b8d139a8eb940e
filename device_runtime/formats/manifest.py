"""The manifest of a bundle, version 2: what the network is, and what every program takes, returns and hashes to.

    {"format": "fedgate-bundle", "version": 2, "model": "resnet32", "gate": "paper", "width": 1.0,
     "dataset": "digits", "labels": [...],
     "input": {"shape": [1, C, H, W], "layout": "NCHW", "mean": [C numbers], "std": [C numbers],
               "fit": "crop", "background": [R, G, B]},
     "densities": [0.25, 0.5], "default_level": 1, "layers": [Layer...], "training": {scalars},
     "masks": "client-3",
     "tail": {"trainable": "head", "layers": ["head"], "features": [C] or [C, H, W], "batch_size": B},
     "programs": [{"file", "runtime", "role", "precision", "tolerance", "level", "inputs", "outputs",
                   "needs_kernel", "kernel_layers", "sha256", "bytes"}],
     "files": {"salience.safetensors": {"sha256", "bytes"}, "reference.safetensors": {...}},
     "digest": SHA-256 of the canonical JSON of all the rest}

A picture becomes pixels by the rule `fit` (`pictures.fit` has it), transparent ones on `background`, by default white.
Pixels are scaled to [0, 1], then (x - mean) / std. A level is an index into `densities`. "masks" is the scope of
salience.safetensors whose record fixed the masks of the static programs; without it that is "global". "tail" stands in
bundles with programs that train, and "files" then has tail.safetensors too, and the weights of a `train-module`.
`ports` lists what each role takes and returns. A program's outputs may differ from the references by "tolerance" times
the largest. Unknown keys are ignored.
"""

import hashlib
import json
import re
from dataclasses import dataclass

from ..errors import FedgateError
from .checks import Fields, canonical_json, is_number, is_text, parse_json
from .macs import Layer, gated, layers_from_json
from .ports import Interface, Port, TailInfo, check_ports, parse_ports, parse_tail
from .roles import INFERENCE_ROLES, TAIL_ROLES

FORMAT = "fedgate-bundle"
VERSION = 2
RUNTIMES = ("executorch", "litert", "onnx")
ROLES = INFERENCE_ROLES + TAIL_ROLES
PRECISIONS = ("fp32", "int8")
REQUIRED_FILES = ("reference.safetensors", "salience.safetensors")
TAIL_FILE = "tail.safetensors"
LARGEST = 2**40
FITS = ("crop",)  # the rules by which pictures become pixels: `pictures.fit`
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Program:
    """One program file. `level` is set for `static` alone: the one density it was made for.

    tolerance: how far its outputs may be from the references, over the largest of them.
    """

    file: str
    runtime: str
    role: str
    precision: str
    tolerance: float
    level: int | None
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    needs_kernel: bool
    kernel_layers: tuple[str, ...]  # layers that the channel-skipping kernel computes; stock operators do the others
    sha256: str
    bytes: int

    @property
    def parts(self) -> tuple["Program", ...]:
        """The programs that run when it answers."""
        return (self,)

    @property
    def is_baseline(self) -> bool:
        """Whether ratios are to this program of a runtime."""
        return self.role == "dense" and self.precision == "fp32"

    @property
    def takes_level(self) -> bool:
        return any(port.name == "level" for port in self.inputs)

    @property
    def weights(self) -> str | None:
        """The name of the file that holds a `train-module`'s parameters; None for other roles."""
        return f"{self.file.rpartition('.')[0]}.ptd" if self.role == "train-module" else None


@dataclass(frozen=True)
class Manifest:
    """A checked manifest. `shape` is (1, C, H, W); `files` maps a name to (SHA-256, bytes)."""

    model: str
    gate: str
    width: float
    dataset: str
    labels: tuple[str, ...]
    shape: tuple[int, int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    background: tuple[int, int, int]
    densities: tuple[float, ...]
    default_level: int
    layers: tuple[Layer, ...]
    training: dict
    masks: str
    tail: TailInfo | None
    programs: tuple[Program, ...]
    files: dict[str, tuple[str, int]]
    digest: str

    @property
    def answering(self) -> tuple[Program, ...]:
        """What answers for an image."""
        return tuple(program for program in self.programs if program.role in INFERENCE_ROLES)

    def named(self, file: str) -> Program:
        """The one of this name, of any role."""
        return next(program for program in (*self.programs, *self.answering) if program.file == file)

    @property
    def interface(self) -> Interface:
        """What the ports of its programs follow from."""
        return Interface(self.shape, len(self.labels), self.layers, self.gate != "none", self.tail)


def render_manifest(fields: dict) -> bytes:
    """The bytes of manifest.json: `fields` with format, version and digest added."""
    fields = {key: value for key, value in fields.items() if key != "digest"}
    fields |= {"format": FORMAT, "version": VERSION}
    return _spell({**fields, "digest": _digest(fields)})


def parse_manifest(data: bytes) -> Manifest:
    """Check the bytes of a manifest.json. Raises `FedgateError` for anything that is not exactly as written."""
    value = parse_json(data, "manifest.json")
    fields = Fields(value, "manifest.json")
    if fields.get("format") != FORMAT:
        fields.refuse("format", f"'{FORMAT}'")
    if fields.get("version") != VERSION or isinstance(value["version"], bool):
        raise FedgateError(f"manifest.json has format version {value['version']!r}; this fedgate reads {VERSION}")
    # The spelling is compared too: the digest alone would not see a changed space or the case of an escape.
    body = {key: item for key, item in value.items() if key != "digest"}
    if fields.sha256("digest") != _digest(body) or data != _spell(value):
        raise FedgateError("manifest.json was changed after it was written: its digest does not match")
    return _manifest(Fields({"masks": "global", "tail": None, **value}, "manifest.json"))


def _spell(fields: dict) -> bytes:
    canonical_json(fields)  # refuses what is not JSON with our own error
    return (json.dumps(fields, sort_keys=True, indent=1) + "\n").encode()


def _digest(fields: dict) -> str:
    return hashlib.sha256(canonical_json(fields).encode()).hexdigest()


def _manifest(fields: Fields) -> Manifest:
    shape, mean, std, background = _input(fields.get("input"))
    labels = fields.items("labels", 1, 100_000)
    if not all(is_text(label) for label in labels):
        fields.refuse("labels", "printable texts")
    densities = fields.numbers("densities", (1, 64), 1e-6, 1.0)
    if len(set(densities)) != len(densities):
        fields.refuse("densities", "distinct")
    layers = layers_from_json(fields.get("layers"), "manifest.json: 'layers'")
    gate = fields.text("gate")
    if (gate == "none") != (not gated(layers)):
        raise FedgateError("manifest.json: gate 'none' goes with no gated layer, any other with some")
    if gate == "none" and densities != (1.0,):
        fields.refuse("densities", "[1.0] for gate 'none'")
    programs = tuple(
        _program(Fields(item, f"manifest.json: program {index}"), len(densities))
        for index, item in enumerate(fields.items("programs", 0, 1000))
    )
    manifest = Manifest(
        model=fields.text("model"),
        gate=gate,
        width=fields.number("width", 1e-6, 1e6),
        dataset=fields.text("dataset"),
        labels=tuple(labels),
        shape=shape,
        mean=mean,
        std=std,
        background=background,
        densities=densities,
        default_level=fields.whole("default_level", 0, len(densities) - 1),
        layers=layers,
        training=_training(fields.get("training")),
        masks=fields.text("masks"),
        tail=parse_tail(fields.get("tail"), layers),
        programs=programs,
        files=_files(fields.get("files")),
        digest=fields.sha256("digest"),
    )
    for program in programs:
        if manifest.gate == "none" and program.role in ("masked", "skip", "static"):
            raise FedgateError(f"manifest.json: gate 'none' has no {program.role} program ({program.file})")
        check_ports(program, manifest)
        _check_kernel(program, manifest)
        if program.weights is not None and (program.runtime != "executorch" or program.weights not in manifest.files):
            raise FedgateError(f"manifest.json: {program.file} is for executorch and needs the file {program.weights}")
    names = [program.file for program in programs] + list(manifest.files)
    kinds = [(p.runtime, p.role, p.precision, p.level, p.needs_kernel) for p in programs]
    if len(set(names)) != len(names) or len(set(kinds)) != len(kinds):
        raise FedgateError("manifest.json lists a file, or a runtime's program of one role, precision and level, twice")
    if (manifest.tail is None) != (TAIL_FILE not in manifest.files):
        raise FedgateError(f"manifest.json: 'tail' goes with a file {TAIL_FILE}")
    return manifest


def _input(value):
    if not isinstance(value, dict):
        raise FedgateError("manifest.json: 'input' must be an object")
    fields = Fields({"fit": FITS[0], "background": list(WHITE), **value}, "manifest.json: 'input'")
    shape = fields.wholes("shape", (4, 4), 1, 2**14)
    if shape[0] != 1 or shape[1] > 2**10:
        fields.refuse("shape", "[1, channels, height, width]")
    fields.choice("layout", ("NCHW",))
    mean = fields.numbers("mean", (shape[1], shape[1]), -1e6, 1e6)
    fields.choice("fit", FITS)
    std = fields.numbers("std", (shape[1], shape[1]), 1e-6, 1e6)
    return shape, mean, std, fields.wholes("background", (3, 3), 0, 255)


def _training(value) -> dict:
    if not isinstance(value, dict):
        raise FedgateError("manifest.json: 'training' must be an object")
    for key, item in value.items():
        scalar = item is None or isinstance(item, bool) or is_text(item, 2000) or is_number(item, -1e300, 1e300)
        if not is_text(key) or not scalar:
            raise FedgateError(f"manifest.json: 'training' has {key!r}, which is not a plain scalar")
    return value


def _program(fields: Fields, levels: int) -> Program:
    role = fields.choice("role", ROLES)
    if role == "static":
        level = fields.whole("level", 0, levels - 1)
    elif fields.get("level") is not None:
        fields.refuse("level", f"null for role '{role}'")
    else:
        level = None
    return Program(
        file=plain_name(fields.get("file")),
        runtime=fields.choice("runtime", RUNTIMES),
        role=role,
        precision=fields.choice("precision", PRECISIONS),
        tolerance=fields.number("tolerance", 0.0, 1.0),
        level=level,
        inputs=parse_ports(fields, "inputs"),
        outputs=parse_ports(fields, "outputs"),
        needs_kernel=fields.flag("needs_kernel"),
        kernel_layers=tuple(fields.items("kernel_layers", 0, 10_000)),
        sha256=fields.sha256("sha256"),
        bytes=fields.whole("bytes", 0, LARGEST),
    )


def _check_kernel(program: Program, manifest: Manifest) -> None:
    names = {layer.name for layer in manifest.layers if layer.kind == "conv"}
    listed = program.kernel_layers
    if not all(isinstance(name, str) and name in names for name in listed) or len(set(listed)) != len(listed):
        raise FedgateError(f"manifest.json: 'kernel_layers' of {program.file} must name convolutions, each once")
    needed = {"skip": True, "trunk": program.needs_kernel}.get(program.role, False)
    if bool(listed) != program.needs_kernel or needed != program.needs_kernel:
        raise FedgateError(f"manifest.json: {program.file} is a {program.role} program: only 'skip' needs the kernel")


def _files(value) -> dict[str, tuple[str, int]]:
    if not isinstance(value, dict) or not set(REQUIRED_FILES) <= set(value):
        raise FedgateError(f"manifest.json: 'files' must list {' and '.join(REQUIRED_FILES)}")
    files = {}
    for name, item in value.items():
        entry = Fields(item, f"manifest.json: file {name!r}")
        files[plain_name(name)] = (entry.sha256("sha256"), entry.whole("bytes", 0, LARGEST))
    return files


def plain_name(name) -> str:
    """The name of a file inside a bundle: letters, digits, '.', '_' and '-', not starting with a dot or a dash."""
    if isinstance(name, str) and name != "manifest.json":
        if re.search(r"[/\\]|^\.\.$|^[A-Za-z]:", name):
            raise FedgateError(f"manifest names {name!r}, which is outside the bundle")
        if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
            return name
    raise FedgateError(f"manifest names the file {name!r}; a plain file name is needed")
