"""The reader of a LiteRT node's attributes: it reads maps that another tool wrote, and nothing outside their bytes."""

import ctypes
import mmap
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")

KERNELS = Path(__file__).parents[2] / "device_runtime" / "kernels"
MOST = 16
NODE = {"gated": 1, "pool": 2, "relu": 1, "residual": 1, "residual_offset": 300, "residual_stride": 2, "stride": 2}
INT32 = st.integers(-(2**31), 2**31 - 1)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=23)
MAPS = st.dictionaries(NAMES, INT32, max_size=MOST)


class Attribute(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * 24), ("value", ctypes.c_int32))


class GuardedReader:
    """Calls the reader on bytes that end, or begin, where a page begins that cannot be read."""

    def __init__(self, library):
        self._c = ctypes.CDLL(str(library))
        libc = ctypes.CDLL(None, use_errno=True)
        self._page = mmap.PAGESIZE
        self._memory = mmap.mmap(-1, 3 * self._page)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for page in (0, 2):
            if libc.mprotect(ctypes.c_void_p(self._base + page * self._page), ctypes.c_size_t(self._page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def read(self, data):
        """The map as a dict, or None where it is refused."""
        at_begin = self._read(data, self._page)
        at_end = self._read(data, 2 * self._page - len(data))
        assert at_begin == at_end
        return at_end

    def _read(self, data, at):
        assert len(data) <= self._page
        self._memory[at : at + len(data)] = data
        found = (Attribute * MOST)()
        count = self._c.fedgate_read_attributes(
            ctypes.c_void_p(self._base + at), ctypes.c_size_t(len(data)), found, ctypes.c_int32(MOST)
        )
        return None if count < 0 else {found[i].name.decode("latin-1"): found[i].value for i in range(count)}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler:
        pytest.skip("no C++ compiler")
    library = tmp_path_factory.mktemp("attributes") / "libattributes.so"
    source = KERNELS / "litert_attributes.cpp"
    subprocess.run([compiler, "-std=c++20", "-O1", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    return GuardedReader(library)


def dump(value):
    return bytes(flexbuffers.Dumps(value))


@given(MAPS)
@example(NODE)
@example({"a": -(2**31), "b": 2**31 - 1, "c": 0})
def test_reads_maps_that_flatbuffers_wrote(reader, attributes):
    assert reader.read(dump(attributes)) == attributes


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_reads_integers_of_every_width(reader, width):
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Key("signed")
        builder.Int(-7, byte_width=width)
        builder.Key("unsigned")
        builder.UInt(100, byte_width=width)
    assert reader.read(bytes(builder.Finish())) == {"signed": -7, "unsigned": 100}


@pytest.mark.parametrize(
    "value",
    [
        5,
        [1, 2],
        "text",
        {"stride": 1.0},
        {"stride": "1"},
        {"stride": True},
        {"stride": None},
        {"stride": [1]},
        {"stride": {"x": 1}},
        {"stride": 2**31},
        {"stride": -(2**31) - 1},
        {"stride": 2**40},
        {"a name of 24 characters.": 1},
        {f"k{i}": i for i in range(MOST + 1)},
    ],
    ids=str,
)
def test_refuses_all_but_flat_maps_of_small_integers(reader, value):
    assert reader.read(dump(value)) is None


@settings(max_examples=300)
@given(st.binary(max_size=96))
def test_random_bytes_never_lead_outside(reader, data):
    reader.read(data)


@settings(max_examples=300)
@given(MAPS, st.data())
def test_damaged_maps_never_lead_outside(reader, attributes, data):
    damaged = bytearray(dump(attributes))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    reader.read(bytes(damaged))
    reader.read(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
