"""Gated networks: any network of convolutions, batch norms and ReLUs, with its convolutions turned into gated units."""

import numpy as np
import torch
from torch import fx, nn

from fedgate.device_runtime.errors import FedgateError, UsageError, choose
from fedgate.device_runtime.formats.macs import Layer

from .gated_conv import FreeNorm, LevelNorm, make_unit
from .gates import FBS_PENALTY, GATED, check_gate
from .graph import closers, input_gate, is_conv, norm_of, ungated_convs
from .logits import check_logits
from .models import build
from .operations import LAYERS, geometry_of, kind_of, module_of
from .own_code import own_code
from .trace import compiled, lend, trace


class GatedNetwork(nn.Module):
    """A network whose every convolution is a `ConvUnit`; images (N, C, H, W) -> logits (N, classes).

    layers: the convolutions and linear layers in the order of computation, as `device_runtime.macs.Layer`.
    densities: the kept fraction of each level, increasing. `level` says which one a forward pass uses.
    training_graph: what is computed in training, on the modules of `body`, where evaluation computes something else.
    code: SHA-256 of the files of a user's own network, by name. plain_norms: the names that the norms of units had in
    the network that was gated -> the convolution before them.
    """

    def __init__(self, body: fx.GraphModule, layers: list[Layer], gate: str, densities, shape, training_graph=None):
        super().__init__()
        self.plain_norms = {}
        self.training_graph = training_graph
        self.training_forward = None if training_graph is None else compiled(training_graph)
        self.code = {}
        self.shape = tuple(shape)  # of one image: (C, H, W)
        self.body = body
        self.layers = layers
        self.gate = gate
        self.frozen = frozenset()  # layers that training leaves alone, see `tails`
        self.densities = tuple(densities)
        self.level = len(self.densities) - 1
        self.units = {layer.name: body.get_submodule(layer.name) for layer in layers if layer.kind == "conv"}
        self.free_norms = {name: m for name, m in body.named_modules() if isinstance(m, FreeNorm)}
        self.gates = {name: unit.gate for name, unit in self.units.items() if unit.gate is not None}

    def forward(self, images):
        for unit in self.units.values():
            unit.level = self.level
        if self.training and self.training_forward is not None:
            return self.training_forward(self.body, images)
        return self.body(images)

    def train(self, mode=True):
        """As any module; where layers are frozen, all norms keep their statistics and normalise by them.

        Those of the tail too: a device has few examples, and its training program has no statistics.
        """
        super().train(mode)
        if self.frozen:
            for unit in self.units.values():
                unit.norms.eval()
            for norm in self.free_norms.values():
                norm.eval()
        return self

    def set_densities(self, densities):
        """Set what each level keeps just now: a density schedule differs from `self.densities` for a while."""
        for gate in self.gates.values():
            gate.set_densities(densities)

    def open(self):
        """The masks of the last forward pass: bool (N, sum of C_out over gated layers), in the order of `layers`."""
        return torch.cat([gate.open for gate in self.gates.values()], dim=1)

    def forget(self):
        """Drop what the last forward pass left in the gates: such tensors cannot be copied with the network."""
        for gate in self.gates.values():
            gate.g = gate.open = gate.pi = None

    def penalty(self):
        """What the gates that train add to the loss of the last forward pass, a scalar: the L1 term of FBS, else 0."""
        if self.gate != "fbs":
            return 0.0
        return FBS_PENALTY * sum(gate.g.sum() for name, gate in self.gates.items() if name not in self.frozen)


def gate_network(module, shape, gate="paper", densities=(0.5,), gated="all"):
    """Return the gated network of a plain one, which is left as it is.

    module: convolutions, batch norms, ReLUs, poolings, residual adds and linear layers; traced by torch.fx.
    shape: of one image, (C, H, W). densities: the kept fraction of each level. gated: one of `gates.GATED`. Stems
    (convolutions that read the image) and 1x1 projection shortcuts keep all their channels in any case.
    Raises `UsageError` that names the layer which cannot be gated.
    """
    check_gate(gate, densities)
    choose("set of gated convolutions", gated, GATED)
    traced, training = trace(module, gate != "none")
    shapes = output_shapes(traced, shape)
    convs = [node for node in traced.graph.nodes if is_conv(node)]
    names = {node.target for node in convs} - ungated_convs(traced.graph) if gate != "none" else set()
    if gated == "hidden":
        names &= read_by_layers(traced.graph, widths(convs, names), shapes)
    if gate != "none" and not names:
        raise UsageError(f"{type(module).__name__} has no convolution to gate: only a stem, shortcuts or logits")
    layers = describe(traced.graph, shapes, names, gate)
    if training is not None:
        check_training(traced, training, layers, names, gate, shape)
    graphs = [traced.graph] if training is None else [traced.graph, training.graph]
    units, plain_norms = {}, {}
    for node in convs:
        norm = norm_of(node)
        if norm is not None:
            plain_norms[norm.target] = node.target
        units[node.target] = make_unit(module_of(node), norm and module_of(norm), gate, densities, node.target in names)
    for graph in graphs:
        for node in list(graph.nodes):
            norm = norm_of(node) if is_conv(node) and node.target in units else None
            if norm is not None:
                norm.replace_all_uses_with(node)
                graph.erase_node(norm)
    for name, unit in units.items():
        traced.set_submodule(name, unit)
    traced.delete_all_unused_submodules()
    if training is not None:
        lend(traced, training)
    settle(traced)
    traced.recompile()
    network = GatedNetwork(traced, layers, gate, densities, shape, training and training.graph)
    network.plain_norms = plain_norms
    return network


def check_training(traced, training, layers, names, gate, shape):
    """Refuse a network whose layers do in training something else than in evaluation, but for what runs add to it."""
    shapes = output_shapes(training, shape)
    if names and describe(training.graph, shapes, names, gate) != layers:
        raise UsageError("cannot gate a network whose convolutions or linear layers in training differ from evaluation")
    norms = [
        {node.target: getattr(norm_of(node), "target", None) for node in each.graph.nodes if is_conv(node)}
        for each in (traced, training)
    ]
    for name in norms[0].keys() & norms[1].keys():
        if norms[0][name] != norms[1][name]:
            raise UsageError(f"layer '{name}' has another norm behind it in training than in evaluation")


def settle(body):
    """Make the norms outside of units those of a run, and take what is no float out of the state: it is constant."""
    for name, module in list(body.named_modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, LevelNorm):
            body.set_submodule(name, FreeNorm.like(module))
    for module in body.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if not buffer.is_floating_point():
                module._non_persistent_buffers_set.add(name)


def output_shapes(traced, shape):
    """Shape of every node's output for one image; a network that does not fit the image is refused."""
    shapes = {}

    class Recorder(fx.Interpreter):
        def run_node(self, node):
            result = super().run_node(node)
            shapes[node] = tuple(getattr(result, "shape", ()))
            return result

    training = traced.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            Recorder(traced.eval()).run(torch.zeros(1, *shape))
    except UsageError:
        raise
    except Exception as error:  # whatever a user's network does with it
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"the network does not fit images of {'x'.join(map(str, shape))}: {reason}") from error
    finally:
        traced.train(training)
    return shapes


def widths(convs, names):
    """C_out of the named ones of some convolution nodes, by name."""
    return {node.target: module_of(node).out_channels for node in convs if node.target in names}


def read_by_layers(graph, gated, shapes):
    """Names of the gated convolutions whose channels a layer reads through their mask (see `closers`)."""
    closer = closers(graph, gated, shapes)
    return {input_gate(node, closer) for node in graph.nodes}


def describe(graph, shapes, gated, gate):
    """The layers of a traced network in the order of computation, with the masks that govern them."""
    convs = [node for node in graph.nodes if is_conv(node)]
    closer = closers(graph, widths(convs, gated), shapes)
    layers = []
    for node in graph.nodes:
        if kind_of(node) not in LAYERS:
            continue
        module = module_of(node)
        if is_conv(node):
            geometry = geometry_of(node)
            # what one output channel reads, where the convolution has groups
            kind, channels = "conv", (module.in_channels // geometry.groups, module.out_channels)
            kernel, output = geometry.kernel, shapes[node][2:]
        else:
            kind, channels = "linear", (module.in_features, module.out_features)
            kernel = output = (1, 1)
        layers.append(
            Layer(
                name=node.target,
                kind=kind,
                in_channels=channels[0],
                out_channels=channels[1],
                kernel=tuple(kernel),
                output=tuple(output),
                gate=node.target in gated,
                input_gate=input_gate(node, closer),
                masked=gate != "scale",
            )
        )
    return layers


def build_network(model, gate, densities, classes, shape, width=1.0, gated="all", hidden_width=1.0):
    """The gated network of a registered model: the plain one is its only description."""
    with own_code(model) as files:
        network = gate_network(build(model, classes, shape, width, hidden_width), shape, gate, densities, gated)
        check_logits(network, model, classes)
    network.code = files
    return network


def parameter_axes(network):
    """For each of `network_tensors` and each of its dimensions: the gated layer whose channels index it, or None.

    A predictor's columns belong to the input gate too: the salience of a closed input channel is 0.
    """
    sources = {layer.name: layer for layer in network.layers}
    axes = {}
    for name, value in network.body.state_dict().items():
        owner = max((layer for layer in sources if name.startswith(layer + ".")), key=len, default=None)
        own = owner if owner and sources[owner].gate else None
        source = sources[owner].input_gate if owner else None  # a parameter of the network's own has no layer
        reads = name.removeprefix(f"{owner}.") in ("weight", "conv.weight", "gate.predictor.weight")
        axes[name] = (own, source if reads else None, *[None] * value.dim())[: value.dim()]
    return axes


def norm_levels(network):
    """The level of each tensor of a norm, by name: a norm is of one level."""
    return {
        f"{name}.norms.{level}.{part}": level
        for name, unit in network.units.items()
        for level, norm in enumerate(unit.norms)
        for part in norm.state_dict()
    }


def network_tensors(network):
    """A network's state as named float32 arrays: parameters and norm statistics."""
    state = network.body.state_dict()
    return {name: value.detach().cpu().contiguous().numpy().copy() for name, value in state.items()}


@torch.no_grad()
def load_tensors(network, tensors, partly=False):
    """Set a network's state from named arrays, as `network_tensors` gave them; partly: of some of its tensors."""
    state = network.body.state_dict()
    if not tensors.keys() <= state.keys() or not (partly or state.keys() == tensors.keys()):
        raise FedgateError(f"the tensors are of another network: {sorted(state.keys() ^ tensors.keys())[:3]} differ")
    for name, value in tensors.items():
        if state[name].shape != value.shape:
            raise FedgateError(f"the tensors are of another network: '{name}' is {list(value.shape)} in them")
        state[name].copy_(torch.from_numpy(np.array(value)))
