"""Phrases about latency."""

from . import of, where

# Networks as the tables name them -> (model, side of the input).
NETWORKS = {
    "ResNet-32, 32x32": ("resnet32", 32),
    "VGG-16, 32x32": ("vgg16", 32),
    "ResNet-18, 32x32": ("resnet18", 32),
    "ResNet-18, 224x224": ("resnet18", 224),
}
HEADS = (
    "| network | MACs of `skip` | `skip`, LiteRT | MACs of `slim` | `slim`, LiteRT | `skip`, ExecuTorch "
    "| `skip`, ExecuTorch, to LiteRT's dense |\n|---|---|---|---|---|---|---|\n"
)


def of_network(rows, network, runtime, role, threads=1):
    """The row of a program, at density 0.5 where it has one."""
    model, side = NETWORKS[network]
    density = None if role.startswith("dense") else 0.5
    return where(rows, model=model, input=side, runtime=runtime, role=role, threads=threads, density=density)


@of("latency")
def latency(rows):
    lines, values, slower = [], [], []
    for name in NETWORKS:
        skip, slim, dense = (of_network(rows, name, "litert", role) for role in ("skip", "slim", "dense"))
        theirs, baseline = (of_network(rows, name, "executorch", role) for role in ("skip", "dense"))
        lines.append(f"| {name} | {{:.0f}} % | {{:.2f}} | {{:.0f}} % | {{:.2f}} | {{:.2f}} | {{:.2f}} |")
        for row in (skip, slim):
            values += [100 * row["executed_macs"] / row["dense_macs"], row["ratio_to_dense"]]
        values += [theirs["ratio_to_dense"], theirs["p50_ms"] / dense["p50_ms"]]
        slower.append(baseline["p50_ms"] / dense["p50_ms"])
    yield HEADS + "\n".join(lines), *values
    yield "its dense programs take {:.1f} to {:.1f} times as long as LiteRT's", min(slower), max(slower)
    skip, dense = (of_network(rows, "ResNet-18, 224x224", "litert", role) for role in ("skip", "dense"))
    yield (
        "executes {:.0f} % of its MACs in {:.2f} of the time, at {:.0f} GMAC/s where dense XNNPACK does {:.0f}",
        100 * skip["executed_macs"] / skip["dense_macs"],
        skip["ratio_to_dense"],
        skip["gmacs"],
        dense["gmacs"],
    )
    levels = [row for row in rows if (row["model"], row["runtime"], row["role"]) == ("resnet32", "litert", "skip")]
    asked = ", ".join(str(row["density"]) for row in levels)
    yield (
        f"ResNet-32 on LiteRT, density {asked}: " + ", ".join(["{:.2f}"] * len(levels)) + " of dense",
        *(row["ratio_to_dense"] for row in levels),
    )
    yield (
        "`dense-int8`, by the runtime's own quantiser, takes {:.2f} of dense on LiteRT (ResNet-32), {:.2f} (VGG-16), "
        "{:.2f} (ResNet-18 at 32x32) and {:.2f} (at 224x224)",
        *(of_network(rows, name, "litert", "dense-int8")["ratio_to_dense"] for name in NETWORKS),
    )
    yield (
        "on ExecuTorch {:.2f}, {:.2f}, {:.2f} and {:.2f} of ExecuTorch's dense",
        *(of_network(rows, name, "executorch", "dense-int8")["ratio_to_dense"] for name in NETWORKS),
    )


@of("latency-threads")
def threads(rows):
    networks = ("VGG-16, 32x32", "ResNet-18, 32x32", "ResNet-32, 32x32", "ResNet-18, 224x224")
    yield (
        "With two threads, LiteRT: {:.2f} (VGG-16), {:.2f} (ResNet-18 at 32x32), {:.2f} (ResNet-32) and "
        "{:.2f} (ResNet-18 at 224x224",
        *(of_network(rows, name, "litert", "skip", 2)["ratio_to_dense"] for name in networks),
    )


@of("latency-onnx")
def onnx(rows):
    skip = [where(rows, role="skip", density=density, threads=1)["ratio_to_dense"] for density in (0.5, 0.25, 1.0)]
    slim = of_network(rows, "ResNet-32, 32x32", "onnx", "slim")["ratio_to_dense"]
    yield (
        "to its own dense program: `skip` {:.2f}, `slim` {:.2f}; at density 0.25 `skip` {:.2f}, at 1.0 {:.2f}",
        *(skip[0], slim, *skip[1:]),
    )
