"""A program of a bundle in Android's library, by the harness's Forward, and the same in Python's runtime."""

import numpy as np

from fedgate.device_runtime.engines import open_program
from fedgate.device_runtime.formats.tensors import unpack

MAIN = "org.fedgate.harness.Forward"


def forward_words(bundle, role, level, folder, *operators):
    """Forward's arguments for a program and the bundle's reference images, which are written to `folder`.

    operators: the library of the kernel's operators, where the program needs it.
    """
    images = reference_images(bundle)
    (folder / "images").write_bytes(images.astype("<f4").tobytes())
    return (bundle.path / program_of(bundle, role).file, folder / "images", level, *images.shape[1:], *operators)


def android_and_python(harness, bundle, role, level, folder, *operators, **where):
    """(logits, masks) in Android's library, and in Python's, of the reference images: (n, classes) and (n, channels).

    where: `dex` or `abi` of `harness.run`.
    """
    words = forward_words(bundle, role, level, folder, *operators)
    rows = [row.split() for row in harness.run(MAIN, *words, **where).splitlines()]
    python = open_program(bundle, program_of(bundle, role))
    logits, masks, *_ = zip(*(python.run(image[None], level) for image in reference_images(bundle)), strict=True)
    android = np.array(rows[::2], np.float32), np.array(rows[1::2], np.uint8)
    return android, (np.concatenate(logits), np.concatenate(masks))


def program_of(bundle, role):
    (program,) = [program for program in bundle.manifest.programs if program.role == role]
    return program


def reference_images(bundle):
    return unpack((bundle.path / "reference.safetensors").read_bytes())[0]["image"]
