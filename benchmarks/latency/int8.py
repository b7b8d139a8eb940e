"""The dense network in int8, by each runtime's own quantiser: static, weights per channel, ranges from images."""

import numpy as np
import torch

from fedgate.device_runtime.errors import FedgateError
from fedgate.export.lowering import lower, quiet


def lower_int8(body, runtime, shape, images):
    """The bytes of an int8 program: float32 image (1, C, H, W) -> float32 logits, int8 between them.

    body: the float network; images: float32 (N, C, H, W), from which ranges are taken. Raises `FedgateError` with why
    there is none.
    """
    try:
        return {"executorch": for_executorch, "litert": for_litert}[runtime](body, shape, images)
    except ImportError as error:
        raise FedgateError(f"{error.name or error} is not installed") from error
    except FedgateError:
        raise
    except Exception as error:  # the quantisers raise what they like
        reason = (str(error).strip().splitlines() or [""])[0]
        raise FedgateError(f"{runtime}'s quantiser failed: {type(error).__name__}: {reason}") from error


@torch.no_grad()
def for_executorch(body, shape, images):
    """torchao's PT2E with ExecuTorch's XNNPACKQuantizer."""
    with quiet():
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        observed = prepare_pt2e(torch.export.export(body, (images[:1],)).module(), quantizer)
        for image in images:
            observed(image[None])
        converted = convert_pt2e(observed)
    return lower(converted, "executorch", shape, has_level=False)


def for_litert(body, shape, images):
    """ai-edge-quantizer's `static_wi8_ai8`, on the float program."""
    with quiet():
        from ai_edge_quantizer import qtyping, quantizer, recipe

    program = lower(body, "litert", shape, has_level=False)
    with quiet():
        maker = quantizer.Quantizer(program, recipe.static_wi8_ai8())
        for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):  # they stay float32
            maker.update_quantization_recipe(".*", end, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE)
        ranges = {}
        # Image by image: over several, 0.10.0 takes a moving average of the extremes, which clips (a relative error
        # of 0.23 instead of 0.03 on ResNet-20).
        for image in images.permute(0, 2, 3, 1).numpy():
            found = maker.calibrate({"serving_default": [{"args_0": np.ascontiguousarray(image[None])}]}, num_threads=1)
            for tensor, new in found.items():
                kept = ranges.setdefault(tensor, dict(new))
                kept["min"] = np.minimum(kept["min"], new["min"])
                kept["max"] = np.maximum(kept["max"], new["max"])
        return bytes(maker.quantize(ranges).quantized_model)
