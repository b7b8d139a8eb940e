"""The ways in which the app's plain Kotlin runs: compiled, as it comes back from the dex, and on the arm64 library."""

import pytest
from emulation import emulated

EVERY_WAY = pytest.mark.parametrize(
    "harness",
    [
        pytest.param({}, id="classes"),
        pytest.param({"dex": True}, id="dex", marks=pytest.mark.slow),
        pytest.param({"abi": "arm64-v8a"}, id="arm64-v8a", marks=[emulated, pytest.mark.slow]),
    ],
    indirect=True,
    scope="session",
)
