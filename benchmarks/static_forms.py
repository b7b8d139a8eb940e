"""How a static network's second convolution of a residual block should land in the full-width stream.

Its kept channels must be added to all channels of the stream. Compared, as programs of the same network with the same
masks, interleaved in one process, one thread, batch 1, as ratios to the dense network:

    scatter    kept channels alone, then a 1x1 convolution with a 0/1 weight (what `export` writes)
    zero-rows  the convolution computes all channels, closed ones with zero weights
    gather     kept channels and one of zeros, put in place by an index
    prefix     kept channels first, zeros padded behind them: needs one kept set a stage, so it is another network,
               and stands here for its speed alone

    python benchmarks/static_forms.py --json static_forms.json
"""

import click
import numpy as np
import torch
import torch.nn.functional as F
from common import measure
from result_file import json_option, write_result
from torch import nn

from fedgate.export.eval_networks import dense_network, static_network
from fedgate.export.fold import plain_conv
from fedgate.export.modules import Scatter
from fedgate.train.network.build import build_network


class Gathered(nn.Module):
    def __init__(self, weight):
        super().__init__()
        channels, kept = weight.shape[:2]
        place = torch.full((channels,), kept)
        place[weight[:, :, 0, 0].argmax(0)] = torch.arange(kept)
        self.register_buffer("place", place)

    def forward(self, x):
        return F.pad(x, (0, 0, 0, 0, 0, 1)).index_select(1, self.place)


class Prefixed(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.extra = weight.shape[0] - weight.shape[1]

    def forward(self, x):
        return F.pad(x, (0, 0, 0, 0, 0, self.extra))


def widen(unit, weight):
    """Give a static unit all output channels, with zero weights where it kept none."""
    places = weight[:, :, 0, 0].argmax(0)
    for name in ("conv", "predictor"):
        conv = getattr(unit, name)
        full = torch.zeros(weight.shape[0], *conv.weight.shape[1:])
        bias = torch.zeros(weight.shape[0])
        full[places], bias[places] = conv.weight.data, conv.bias.data
        setattr(unit, name, plain_conv(conv, full, bias))


def with_form(body, form):
    """Rewrite the scatters of a static network."""
    for node in body.graph.nodes:
        module = body.get_submodule(node.target) if node.op == "call_module" else None
        if not isinstance(module, Scatter) or form == "scatter":
            continue
        weight = module.conv.weight.data
        if form == "zero-rows":
            widen(body.get_submodule(node.args[0].target), weight)
            body.set_submodule(node.target, nn.Identity())
        else:
            body.set_submodule(node.target, {"gather": Gathered, "prefix": Prefixed}[form](weight))
    body.recompile()
    return body


@click.command()
@click.option("--runtime", "runtimes", multiple=True, default=("litert", "executorch"), show_default=True)
@click.option("--model", "models", multiple=True, default=("resnet32", "resnet18"), show_default=True)
@click.option("--density", default=0.5, show_default=True)
@click.option("--seconds", default=20.0, show_default=True, help="For each runtime and model.")
@click.option("--quick", is_flag=True, help="ResNet-32 on LiteRT, five seconds.")
@json_option
@torch.no_grad()
def main(runtimes, models, density, seconds, quick, json_path):
    """Measure the four forms."""
    if quick:
        runtimes, models, seconds = ("litert",), ("resnet32",), 5.0
    rng = np.random.default_rng(0)
    rows = []
    for model in models:
        torch.manual_seed(0)
        network = build_network(model, "paper", (density,), 10, (3, 32, 32)).eval()
        kept = {name: np.sort(rng.permutation(gate.out_channels)[: gate.k[0]]) for name, gate in network.gates.items()}
        networks = {"dense": dense_network(network)}
        for form in ("scatter", "zero-rows", "gather", "prefix"):
            networks[form] = with_form(static_network(network, 0, kept), form)
        for runtime in runtimes:
            for form, found in measure(networks, runtime, network, seconds).items():
                rows.append({"runtime": runtime, "model": model, "density": density, "form": form, **found})
                print(
                    f"{runtime:12}{model:10}{form:10}{found['p50_ms']:9.3f} ms  {found['ratio_to_dense']:.3f}",
                    flush=True,
                )
    write_result(json_path, rows)


if __name__ == "__main__":
    main()
