"""A program of a bundle in Android's library, by the harness's Forward, and the same in Python's runtime."""

import numpy as np

from fedgate.device_runtime.engines import load_program
from fedgate.device_runtime.tensors import unpack


def android_and_python(harness, bundle, role, level, folder, **where):
    """(logits, masks) in Android's library, and in Python's, of the reference images: (n, classes) and (n, channels).

    where: `dex` or `abi` of `harness.run`.
    """
    (program,) = [program for program in bundle.manifest.programs if program.role == role]
    images = unpack((bundle.path / "reference.safetensors").read_bytes())[0]["image"]
    (folder / "images").write_bytes(images.astype("<f4").tobytes())
    words = (bundle.path / program.file, folder / "images", level, *images.shape[1:])
    rows = [row.split() for row in harness.run("org.fedgate.harness.Forward", *words, **where).splitlines()]
    python = load_program(bundle, program)
    logits, masks = zip(*(python.run(image[None], level) for image in images), strict=True)
    android = np.array(rows[::2], np.float32), np.array(rows[1::2], np.uint8)
    return android, (np.concatenate(logits), np.concatenate(masks))
