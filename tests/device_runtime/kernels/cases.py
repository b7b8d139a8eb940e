"""Random calls of the kernel, all drawn from one table, and the judge of what a kernel has computed.

An exact case is made of small integers and powers of two, so that every sum is exact in float32: its masks must be
equal, and its outputs too but for the roundings of the last step. A general case has arbitrary floats, and masks by
the rule of equal masks.
"""

from dataclasses import dataclass

import naive
import numpy as np

# Small layers more often, for the narrow tiles, and because large maps are affordable with few channels only.
FEW = (*range(1, 17), *range(1, 17), *range(1, 9))
SIDES = (*range(1, 41), *range(1, 9), *range(1, 9), *range(1, 9), *range(1, 5), *range(1, 5))
# Hypothesis shrinks towards the first value of each.
TABLE = {
    "batch": range(1, 5),
    "in_channels": (*range(1, 131), *FEW, 400, 450),  # 400: the loop over inputs is cut
    "out_channels": (*range(1, 131), *FEW),
    "height": SIDES,
    "width": SIDES,
    "kernel": (3, 3, 1),
    "stride": (1, 1, 2),
    "relu": (0, 1),
    "pool": (1, 2),
    "nhwc": (0, 1),
    "levels": (1, 2, 3),
    "x": ("normal", "rectified", "negative", "zero", "denormal", "large"),
    "inputs": ("all", "some", "some", "one", "none"),
    "gate": ("none", "random", "random", "ties", "equal", "closed"),
    "kept": ("density", "density", "one", "every", "outside"),
    "residual": ("none", "full", "part", "strided"),
}
MOST_MACS = 4_000_000
DENORMAL = 2.0**-140


@dataclass
class Case:
    exact: bool
    arrays: tuple  # x, weight, scale, shift
    options: dict  # the others of `library.Context.prepare`

    def reference(self, forced=None) -> naive.Result:
        return naive.gated_conv2d(*self.arrays, **self.options, forced=forced)


def affordable(shape: dict, most_macs: int) -> dict:
    """The shape with a smaller batch, then a smaller map, until its dense MACs are few enough."""
    shape = dict(shape)
    a_pixel = shape["in_channels"] * shape["out_channels"] * shape["kernel"] ** 2

    def macs():
        return shape["batch"] * shape["height"] * shape["width"] * a_pixel / shape["stride"] ** 2

    while macs() > most_macs and shape["batch"] > 1:
        shape["batch"] -= 1
    while macs() > most_macs and (shape["height"] > 1 or shape["width"] > 1):
        longer = "height" if shape["height"] >= shape["width"] else "width"
        shape[longer] = (shape[longer] + 1) // 2
    return shape


def make_case(shape: dict, seed: int, exact: bool, most_macs: int = MOST_MACS) -> Case:
    """A case from one value of each row of the table."""
    shape = affordable(shape, most_macs)
    rng = np.random.default_rng(seed)
    n, c, o = shape["batch"], shape["in_channels"], shape["out_channels"]
    height, width, kernel, stride = (shape[name] for name in ("height", "width", "kernel", "stride"))
    out_height, out_width = (height - 1) // stride + 1, (width - 1) // stride + 1
    gated = shape["gate"] != "none"

    def numbers(*size, most=2):
        values = rng.integers(-most, most + 1, size) if exact else rng.normal(size=size)
        return values.astype(np.float64)

    # a mean over the map stays an integer when all values are multiples of the number of pixels
    unit = float(height * width) if exact and gated else 1.0
    factor = {"denormal": DENORMAL, "large": 1024.0}.get(shape["x"], 1.0)
    x = numbers(n, c, height, width, most=3) * unit * factor
    if shape["x"] == "rectified":
        x = np.maximum(x, 0)
    elif shape["x"] == "negative":
        x = -np.abs(x)
    elif shape["x"] == "zero":
        x *= 0
    options = {"stride": stride, "relu": shape["relu"], "nhwc": shape["nhwc"]}
    options["pool"] = shape["pool"] if min(out_height, out_width) > 1 else 1
    options["level"] = int(rng.integers(shape["levels"]))

    if shape["inputs"] != "all":
        in_open = np.zeros((n, c), np.uint8)
        if shape["inputs"] == "some":
            in_open[:] = rng.random((n, c)) < rng.random()
        elif shape["inputs"] == "one":
            in_open[np.arange(n), rng.integers(c, size=n)] = 1
        # what lies in a closed channel is never read
        garbage = rng.choice([np.nan, np.inf, -np.inf, 3e38, 1e-42], size=x.shape)
        x = np.where(in_open[:, :, None, None], x, garbage)
        options["in_open"] = in_open
    if shape["nhwc"]:
        x = x.transpose(0, 2, 3, 1)

    if gated:
        options |= make_gate(shape, rng, numbers, factor, exact)
    if shape["residual"] != "none":
        options |= make_residual(shape, rng, numbers, out_height, out_width)
    if exact:
        scale = rng.choice([-1.0, 0.25, 0.5, 1.0, 2.0], size=(shape["levels"], o))
    else:
        scale = rng.normal(size=(shape["levels"], o))
    arrays = x, numbers(o, c, kernel, kernel), scale, numbers(shape["levels"], o, most=4)
    arrays = tuple(np.ascontiguousarray(array, np.float32) for array in arrays)
    return Case(exact, arrays, options)


def make_gate(shape, rng, numbers, factor, exact):
    c, o = shape["in_channels"], shape["out_channels"]
    weight, bias = numbers(c, o), numbers(o, most=8)
    if exact:
        weight /= 4
        bias *= factor if factor < 1 else 1  # beside a denormal sum it must be one too
    else:
        weight /= np.sqrt(c) * max(factor, 1)
        bias = np.ones(o) if rng.random() < 0.5 else bias
    if shape["gate"] == "ties":
        few = rng.integers(o, size=max(o // 4, 1))
        same = rng.choice(few, size=o)
        weight, bias = weight[:, same], bias[same]
    elif shape["gate"] == "equal":
        weight, bias = np.repeat(weight[:, :1], o, 1), np.repeat(np.abs(bias[:1]), o)
    elif shape["gate"] == "closed":
        weight, bias = -np.abs(weight), -np.abs(bias)
    if shape["kept"] == "density":
        kept = np.clip(np.floor(rng.random(shape["levels"]) * o + 0.5), 1, o)
    elif shape["kept"] == "outside":
        kept = rng.choice([-3, 0, o + 1, 2**31 - 1], size=shape["levels"])
    else:
        kept = np.full(shape["levels"], 1 if shape["kept"] == "one" else o)
    return {
        "gate_weight": np.ascontiguousarray(weight, np.float32),
        "gate_bias": bias.astype(np.float32),
        "kept": kept.astype(np.int32),
    }


def make_residual(shape, rng, numbers, out_height, out_width):
    step = int(rng.integers(2, 4)) if shape["residual"] == "strided" else 1
    # any size of which every step-th row or column gives the output's
    height, width = ((side - 1) * step + 1 + int(rng.integers(step)) for side in (out_height, out_width))
    channels = shape["out_channels"]
    if shape["residual"] != "full":
        channels = int(rng.integers(1, channels + 1))
    return {
        "residual": numbers(shape["batch"], channels, height, width, most=8).astype(np.float32),
        "residual_stride": step,
        "residual_offset": int(rng.integers(shape["out_channels"] - channels + 1)),
    }


def random_cases(count: int, seed: int, most_macs: int = MOST_MACS) -> list[Case]:
    """Cases of both kinds in turn, without Hypothesis: for programs that take them from a file."""
    rng = np.random.default_rng(seed)
    shapes = [{name: values[rng.integers(len(values))] for name, values in TABLE.items()} for _ in range(count)]
    return [make_case(shape, seed + i, i % 2 == 0, most_macs) for i, shape in enumerate(shapes)]


def judge(case: Case, y: np.ndarray, open: np.ndarray, macs: int) -> tuple[int, int]:
    """Fail where y, open or macs are not what the case must give; returns close calls and decisions."""
    assert open.max() <= 1, "masks hold values other than 0 and 1, or were not written"
    assert np.isfinite(y).all(), "outputs were not written, or a closed channel was read"
    right = case.reference(forced=open)
    close = 0
    if case.exact:
        np.testing.assert_array_equal(open, right.open)
        # three roundings: the gate times the scale or the shift, the sum times that, the sums
        allowed = 4 * 2.0**-24 * right.terms
    else:
        k = open.shape[1] if "kept" not in case.options else case.options["kept"][case.options["level"]]
        close = sum(close_calls(*sample, k) for sample in zip(open, right.open, right.gate, strict=True))
        # float32 sums of n terms are off by less than n / 2^24 of their magnitudes added up; signs of roundings are
        # random, so that it is about sqrt(n) / 2^24, 2e-6 for the longest sums here, once for each of s, g and conv
        allowed = 1e-5 * right.magnitudes
    # products of denormals are off by up to 2^-150 each, whatever their size
    error = np.abs(y - right.y) - allowed - np.finfo(np.float32).tiny
    worst = np.unravel_index(error.argmax(), error.shape)
    assert error[worst] <= 0, f"y{list(map(int, worst))} is {y[worst]}, and should be {right.y[worst]}"
    assert macs == right.macs
    return close, open.size


def close_calls(open, right, g, k):
    """The rule of equal masks for one layer and sample; see fedgate.device_runtime.verify.compare_masks."""
    wrong = np.flatnonzero(open != right)
    if len(wrong) == 0:
        return 0
    assert open.sum() <= k, f"{open.sum()} channels are open of {k}"
    ranked = np.sort(g)[::-1]
    close = 1e-4 * ranked[0]
    for channel in wrong:
        rank = k if right[channel] else k - 1
        boundary = ranked[rank] if rank < len(ranked) else np.inf
        near = abs(g[channel] - boundary) <= close or g[channel] <= close
        assert near, f"channel {channel} should be {'open' if right[channel] else 'closed'}"
    return len(wrong)
