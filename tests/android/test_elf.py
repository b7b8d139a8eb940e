"""Android's libraries as glibc's loader takes them: no versions, and other names for what differs."""

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedgate.device_runtime.errors import FedgateError

SOURCE = """
#include <stdarg.h>
#include <stdio.h>
int say(FILE *to, const char *text, ...) {
    va_list arguments;
    va_start(arguments, text);
    return vfprintf(to, text, arguments) + fprintf(to, "%s%d", text, 1) + fflush(to);
}
"""


@pytest.fixture(scope="module")
def library(harness, tmp_path_factory):
    """A library that imports fflush, vfprintf and fprintf, whose name the linker stores as the end of vfprintf's."""
    file = tmp_path_factory.mktemp("elf") / "library.so"
    command = ["gcc", "-O1", "-fno-builtin", "-shared", "-fPIC", "-x", "c", "-", "-o", file]
    subprocess.run(command, input=SOURCE, text=True, check=True)
    return file


def readelf(data, folder, *options):
    (folder / "adapted.so").write_bytes(data)
    done = subprocess.run(["readelf", "-W", *options, folder / "adapted.so"], capture_output=True, text=True)
    return done.stdout


def undefined(data, folder):
    return set(re.findall(r"FUNC +GLOBAL +DEFAULT +UND (\w+)", readelf(data, folder, "--dyn-syms")))


def test_names_change_and_versions_go(library, tmp_path):
    from offline.elf import adapt

    before = library.read_bytes()
    assert undefined(before, tmp_path) == {"fprintf", "vfprintf", "fflush"}
    assert "VERNEED" in readelf(before, tmp_path, "-d")
    after = adapt(before, {"fprintf", "vfprintf"})
    assert undefined(after, tmp_path) == {"Fprintf", "vFprintf", "fflush"} and len(after) == len(before)
    assert not re.search("VERNEED|VERSYM", readelf(after, tmp_path, "-d"))


def test_a_name_never_changes_with_another_one(library):
    from offline.elf import adapt

    with pytest.raises(FedgateError, match="the name vfprintf would change with another one"):
        adapt(library.read_bytes(), {"fprintf"})


@given(st.text("_abcXYZ019", min_size=2, max_size=30))
def test_a_hidden_name_is_found_by_its_hash(name):
    from offline.elf import hidden

    def gnu_hash(name):  # of the dynamic linker
        value = 5381
        for letter in name:
            value = (value * 33 + ord(letter)) & 0xFFFFFFFF
        return value

    assert hidden(name) != name and gnu_hash(hidden(name)) == gnu_hash(name)


def test_nothing_of_exceptions_is_shared_with_the_cpp_runtime_of_the_jvm(harness):
    from offline.library import native_libraries

    def defined(*files):
        command = ["nm", "-D", "--defined-only", *files]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        return {line.split()[-1].partition("@")[0] for line in lines if len(line.split()) == 3}

    gcc = (
        subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in ("libstdc++.so.6", "libgcc_s.so.1")
    )
    jvms = defined(*gcc)
    assert {"__cxa_throw", "_ZTISt9exception", "_ZTIPKc", "_Znwm"} <= jvms
    folder = native_libraries("x86_64")
    shared = jvms & defined(*(folder / name for name in ("libexecutorch.so", "libfbjni.so", "libc++_shared.so")))
    # new and delete are malloc and free in both
    assert [
        name for name in shared if not re.match("_Z(nw|na|dl|da)|__cxa_thread_atexit$|__emutls_get_address$", name)
    ] == []


def test_other_files_are_one_line(library):
    from offline.elf import adapt

    whole = library.read_bytes()
    for data in (b"", b"MZ" + whole[2:], whole[:4] + b"\x01" + whole[5:], whole[:100], whole[:-400]):
        with pytest.raises(FedgateError, match=r"^this is no library of Android: .+$"):
            adapt(data, {"fflush"})
