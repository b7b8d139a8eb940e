"""Which gated layers the kernel is worth it for: a table of measured shapes.

The kernel's time falls with the MACs that it executes, down from a little more than dense XNNPACK's for all of them on
large maps, and from much more on maps of a few pixels, where it waits for weights. The shares of the layer's MACs below
which it is the faster one were measured with benchmarks/layers.py, one thread, AVX2 against LiteRT's XNNPACK.
"""

from fedgate.device_runtime.formats.macs import open_count

# kernel side -> (least side of the output, the share of MACs at which both take the same time), large maps first
BREAK_EVEN = {
    3: ((4, 0.85), (2, 0.37), (1, 0.27)),
    1: ((16, 0.46), (8, 0.70), (1, 0.40)),
}


def pays(layer, densities):
    """Whether the kernel is faster than the dense layer, on average over the densities that one program serves.

    Layers without a gate stay with the kernel: between its layers, another layout would cost more than they gain.
    """
    if not layer.gate:
        return True
    shares = [
        open_count(density, layer.out_channels) / layer.out_channels * (density if layer.input_gate else 1.0)
        for density in densities
    ]
    side = min(layer.output)
    limit = next(share for least, share in BREAK_EVEN[layer.kernel[0]] if side >= least)
    return sum(shares) / len(shares) < limit
