"""What many tests of training begin with."""

import pytest

from fedgate.train.data.load import load_data


@pytest.fixture(scope="session")
def digits():
    return load_data("digits")
