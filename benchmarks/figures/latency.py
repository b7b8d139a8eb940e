"""What skipping gains: latency, of untrained networks."""

from . import table, where

# Networks as the tables name them -> (model, side of the input).
NETWORKS = {
    "ResNet-32, 32x32": ("resnet32", 32),
    "VGG-16, 32x32": ("vgg16", 32),
    "ResNet-18, 32x32": ("resnet18", 32),
    "ResNet-18, 224x224": ("resnet18", 224),
}


def of_network(rows, network, runtime, role, threads=1):
    """The row of a program, at density 0.5 where it has one."""
    model, side = NETWORKS[network]
    density = None if role.startswith("dense") else 0.5
    return where(rows, model=model, input=side, runtime=runtime, role=role, threads=threads, density=density)


def ratio(row):
    return f"{row['ratio_to_dense']:.2f}"


@table("latency")
def skipping(rows):
    heads = ("MACs of `skip`", "`skip`, LiteRT", "MACs of `slim`", "`slim`, LiteRT", "`skip`, ExecuTorch")
    yield "network", *heads
    for name in NETWORKS:
        skip, slim, dense = (of_network(rows, name, "litert", role) for role in ("skip", "slim", "dense"))
        theirs = of_network(rows, name, "executorch", "skip")["p50_ms"] / dense["p50_ms"]
        macs = [f"{100 * row['executed_macs'] / row['dense_macs']:.0f} %" for row in (skip, slim)]
        yield name, macs[0], f"**{ratio(skip)}**", macs[1], ratio(slim), f"{theirs:.2f}"


@table("latency")
def latency_of_executorch(rows):
    yield "network", "dense, to LiteRT's dense", "`skip`, to its own dense", "`dense-int8`, to its own dense"
    for name in NETWORKS:
        dense, skip, int8 = (of_network(rows, name, "executorch", role) for role in ("dense", "skip", "dense-int8"))
        slower = dense["p50_ms"] / of_network(rows, name, "litert", "dense")["p50_ms"]
        yield name, f"{slower:.2f}", ratio(skip), ratio(int8)


@table("latency", "latency-threads")
def latency_of_litert(rows, threaded):
    heads = ("dense, GMAC/s", "`skip`, GMAC/s", "`skip` on two threads, to dense on two", "`dense-int8`, to dense")
    yield "network", *heads
    for name in NETWORKS:
        dense, skip, int8 = (of_network(rows, name, "litert", role) for role in ("dense", "skip", "dense-int8"))
        two = of_network(threaded, name, "litert", "skip", 2)
        yield name, f"{dense['gmacs']:.0f}", f"{skip['gmacs']:.0f}", ratio(two), ratio(int8)


@table("latency", "latency-onnx")
def dial(rows, onnx):
    yield "ResNet-32, 32x32", "LiteRT", "ONNX Runtime"
    facts = {"model": "resnet32", "threads": 1}
    pairs = [(rows, facts | {"runtime": "litert"}), (onnx, facts | {"runtime": "onnx"})]
    skipped = [row for row in rows if (row["model"], row["runtime"], row["role"]) == ("resnet32", "litert", "skip")]
    for role, density in [*(("skip", row["density"]) for row in skipped), ("slim", 0.5)]:
        cells = [ratio(where(found, role=role, density=density, **these)) for found, these in pairs]
        yield f"`{role}`, density {density:g}", *cells
