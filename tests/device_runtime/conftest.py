"""One small bundle for all tests here, with real programs of all three runtimes, made once a session."""

import numpy as np
import pytest
import tiny_bundle

from fedgate.device_runtime.formats.bundle import load_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """A loaded bundle: a gated network of two gated convolutions, two densities; see tiny_bundle.py."""
    return tiny_bundle.build(tmp_path_factory.mktemp("bundle") / "tiny.fedgate")


@pytest.fixture
def changed(bundle, tmp_path):
    """A function that writes a copy of the bundle with changed manifest fields or files, and loads it."""

    def change(fields=None, files=None):
        return tiny_bundle.rewrite(bundle, tmp_path / "changed.fedgate", fields or {}, files or {})

    return change


@pytest.fixture
def copy(bundle, tmp_path):
    """The folder of a plain copy of the bundle, to be damaged."""
    import shutil

    target = tmp_path / "copy.fedgate"
    shutil.copytree(bundle.path, target)
    load_bundle(target)
    return target


@pytest.fixture
def picture(tmp_path):
    """A PNG of random pixels, 12 x 10 RGB."""
    from PIL import Image

    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
