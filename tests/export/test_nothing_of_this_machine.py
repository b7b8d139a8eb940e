"""A program holds nothing of the machine that it was made on: no path of a source, a home or a temporary folder."""

import os
import tempfile
from pathlib import Path

import pytest
from small_networks import small_network

import fedgate.export
from fedgate.export.eval_networks import masked_network
from fedgate.export.lowering import LOWERINGS, lower

HERE = (Path(fedgate.export.__file__).parent, Path.cwd(), Path.home(), tempfile.gettempdir())


@pytest.mark.parametrize("runtime", LOWERINGS)
def test_no_path_is_in_a_program(runtime):
    network = small_network("residual", (0.3, 0.6))
    program = lower(masked_network(network), runtime, network.shape, True)
    assert [str(path) for path in HERE if len(str(path)) > 1 and os.fsencode(path) in program] == []
    assert b".py" not in program
