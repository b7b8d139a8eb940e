"""The kernel library through ctypes: one gated convolution at a time, on numpy arrays.

The runtimes load operators built from the same sources, and those libraries hold the same functions: the count of
executed MACs is read here for them too.
"""

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_uint8, c_uint64, c_void_p
from pathlib import Path

import numpy as np

from ..errors import FedgateError


class _Layer(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("in_channels", "out_channels", "height", "width", "kernel", "stride", "relu")),
        *((name, c_int32) for name in ("pool", "levels", "residual_channels", "residual_height", "residual_width")),
        *((name, c_int32) for name in ("residual_stride", "residual_offset")),
        *((name, POINTER(c_float)) for name in ("weight", "scale", "shift", "gate_weight", "gate_bias")),
        ("kept", POINTER(c_int32)),
    ]


class _Call(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("batch", "nhwc", "level")),
        ("x", POINTER(c_float)),
        ("in_open", POINTER(c_uint8)),
        ("residual", POINTER(c_float)),
        ("y", POINTER(c_float)),
        ("open", POINTER(c_uint8)),
    ]


_STATUS = {1: "the layer is refused", 2: "the call does not fit the layer", 3: "no memory"}


class KernelLibrary:
    """A built kernel library. `isas`: the instruction sets that can be chosen here, best first."""

    def __init__(self, path: Path):
        try:
            self._c = ctypes.CDLL(str(path))
        except OSError as error:
            raise FedgateError(f"cannot load the kernel library {path}: {error}") from error
        self._c.fedgate_create.argtypes = [c_char_p, c_int32]
        self._c.fedgate_create.restype = c_void_p
        self._c.fedgate_destroy.argtypes = [c_void_p]
        self._c.fedgate_conv2d.argtypes = [c_void_p, POINTER(_Layer), POINTER(_Call)]
        self._c.fedgate_refused.argtypes = [POINTER(_Layer)]
        self._c.fedgate_refused.restype = c_char_p
        self._c.fedgate_isas.restype = c_char_p
        self._c.fedgate_macs.restype = c_uint64
        self.isas = self._c.fedgate_isas().decode().split()

    def executed_macs(self) -> int:
        """MACs of all calls since `reset_macs`."""
        return self._c.fedgate_macs()

    def reset_macs(self) -> None:
        self._c.fedgate_reset_macs()

    def context(self, isa: str | None = None, threads: int = 1) -> "Context":
        """Scratch memory and threads for calls; isa: None for the best. Raises `FedgateError` for one not here."""
        return Context(self._c, isa, threads)


class Context:
    def __init__(self, c, isa, threads):
        self._c = c
        self._pointer = c.fedgate_create(isa.encode() if isa else None, threads)
        if not self._pointer:
            raise FedgateError(f"no kernel for instruction set '{isa}' with {threads} threads here")

    def __del__(self):
        if getattr(self, "_pointer", None):
            self._c.fedgate_destroy(self._pointer)

    def prepare(self, x, weight, scale, shift, **options):
        """A call that can be repeated: returns (function without arguments, y, open).

        x: float32 (N, C_in, H, W), or (N, H, W, C_in) with nhwc=True; weight: (C_out, C_in, K, K); scale, shift:
        (levels, C_out). Options: stride, relu, pool, nhwc, level, in_open uint8 (N, C_in), gate_weight (C_in, C_out),
        gate_bias (C_out,), kept int32 (levels,), residual (N, C, H, W) with residual_stride and residual_offset.
        """
        layer, call, y, opened, kept_alive = _describe(x, weight, scale, shift, **options)
        reason = self._c.fedgate_refused(ctypes.byref(layer))
        if reason:
            raise FedgateError(f"the kernel refuses the layer: {reason.decode()}")

        def run(_alive=kept_alive):
            status = self._c.fedgate_conv2d(self._pointer, ctypes.byref(layer), ctypes.byref(call))
            if status:
                raise FedgateError(f"the kernel failed: {_STATUS.get(status, status)}")

        return run, y, opened

    def conv2d(self, *arrays, **options):
        """One call; arguments as of `prepare`. Returns y float32 (N, C_out, H', W') and open uint8 (N, C_out)."""
        run, y, opened = self.prepare(*arrays, **options)
        run()
        return y, opened


def _describe(x, weight, scale, shift, *, stride=1, relu=False, pool=1, nhwc=False, level=0, in_open=None,
              gate_weight=None, gate_bias=None, kept=None, residual=None, residual_stride=1,
              residual_offset=0):  # fmt: skip
    arrays = []

    def pointer(array, dtype, kind):
        if array is None:
            return None
        array = np.ascontiguousarray(array, dtype)
        arrays.append(array)
        return array.ctypes.data_as(POINTER(kind))

    batch = x.shape[0]
    height, width, channels = x.shape[1:] if nhwc else (*x.shape[2:], x.shape[1])
    out_channels = weight.shape[0]
    out = ((height - 1) // stride + 1) // pool, ((width - 1) // stride + 1) // pool
    # filled with what no layer computes, so that a place that is not written is seen
    y = np.full((batch, out_channels, *out), np.nan, np.float32)
    opened = np.full((batch, out_channels), 255, np.uint8)
    _, rc, rh, rw = (0, 0, 0, 0) if residual is None else residual.shape
    layer = _Layer(
        channels, out_channels, height, width, weight.shape[2], stride, relu, pool, len(scale),
        rc, rh, rw, residual_stride, residual_offset,
        pointer(weight, np.float32, c_float),
        pointer(scale, np.float32, c_float),
        pointer(shift, np.float32, c_float),
        pointer(gate_weight, np.float32, c_float),
        pointer(gate_bias, np.float32, c_float),
        pointer(kept, np.int32, c_int32),
    )  # fmt: skip
    call = _Call(
        batch, nhwc, level,
        pointer(x, np.float32, c_float),
        pointer(in_open, np.uint8, c_uint8),
        pointer(residual, np.float32, c_float),
        y.ctypes.data_as(POINTER(c_float)),
        opened.ctypes.data_as(POINTER(c_uint8)),
    )  # fmt: skip
    return layer, call, y, opened, [*arrays, y, opened]  # the structs hold bare addresses
