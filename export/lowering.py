"""Lowering an exported network to each runtime's file.

A network takes an image batch (1, C, H, W), and a level, int32 (1,), where it has one; a function takes arrays. Each
lowering returns the program's bytes. The libraries write much to the terminal, of which nothing is for the user.
"""

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

import torch

from .gated_conv2d import call_operator
from .left_out import MissingError
from .litert_skip import call_composite, composites_to_custom
from .onnx_skip import call_onnx
from .skip import with_operator


@contextlib.contextmanager
def quiet():
    """Drop what libraries print, also from C++; why one failed stands in the exception it raises."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as captured, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        os.dup2(captured.fileno(), 1)
        os.dup2(captured.fileno(), 2)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
        finally:
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            logging.disable(logging.NOTSET)


def to_executorch(network, inputs):
    """ExecuTorch, with everything that XNNPACK takes delegated to it, but for our operator. Images are NCHW."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(with_operator(network, call_operator), inputs)
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    return lowered.to_executorch().buffer


def to_litert(network, inputs):
    """LiteRT (TFLite); XNNPACK and our delegate take their parts when the file is loaded. Images are NHWC."""
    import litert_torch

    image, *rest = inputs
    network = with_operator(network, call_composite)
    inputs = (image.permute(0, 2, 3, 1).contiguous(), *rest)
    return converted(litert_torch.to_channel_last_io(network, args=[0]), inputs)


def converted(module, inputs):
    """The bytes of a LiteRT file for a module as it is."""
    import litert_torch

    model = litert_torch.convert(module, inputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.tflite")
        model.export(str(path))
        return composites_to_custom(path.read_bytes())


def to_onnx(network, inputs):
    """ONNX for ONNX Runtime. Images are NCHW."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    network = with_operator(network, call_onnx)
    names = ["image", "level"][: len(inputs)]
    outputs = ["logits", "open"][: len(inputs)]
    program = torch.onnx.export(network, inputs, dynamo=True, input_names=names, output_names=outputs, verbose=False)
    ClearMetadataAndDocStringPass()(program.model)  # stack traces, with paths of this machine, at every node
    return program.model_proto.SerializeToString()


# runtime -> (file suffix, layout of its images, the function that lowers to it, what `pip install` needs)
LOWERINGS = {
    "executorch": ("pte", "NCHW", to_executorch, "executorch"),
    "litert": ("tflite", "NHWC", to_litert, "litert-torch"),
    "onnx": ("onnx", "NCHW", to_onnx, "onnxscript"),
}


@torch.no_grad()
def lower(network, runtime, shape, has_level):
    """Lower a network for images of shape (C, H, W) to a runtime's file; returns its bytes."""
    inputs = (torch.zeros(1, *shape),)
    if has_level:
        inputs = (*inputs, torch.zeros(1, dtype=torch.int32))
    return bytes(quietly(LOWERINGS[runtime][2], runtime, network, inputs))


def lower_function(module, runtime, inputs):
    """Lower a module of plain operators on arrays, none of them an image, to a runtime's file; returns its bytes."""
    return bytes(quietly(converted if runtime == "litert" else LOWERINGS[runtime][2], runtime, module, inputs))


def quietly(function, runtime, network, inputs):
    """What a lowering returns, without its chatter."""
    try:
        with quiet():
            return function(network, inputs)
    except ImportError as error:
        package = LOWERINGS[runtime][3]
        raise MissingError(
            f"cannot export to {runtime}: {error.name} is not installed (pip install 'fedgate[export]', for {package})"
        ) from error
