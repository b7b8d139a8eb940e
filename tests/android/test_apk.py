"""`make android`: an APK that is what the Gradle project says, whose dex does on the JVM what the classes do."""

import os
import struct
import zipfile

import numpy as np
import pytest
from forward import android_and_python

from fedgate.device_runtime.errors import FedgateError


@pytest.fixture(scope="module", params=["x86_64", pytest.param("arm64-v8a", marks=pytest.mark.slow)])
def built(request, harness):
    """(ABI, the APK, its badging); skips where the tools cannot be had."""
    from offline import apk, ops
    from offline.tools import need

    try:
        need(*apk.TOOLS)
        ops.prepare(request.param)
    except FedgateError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    return request.param, *apk.build(request.param)


def test_the_apk_says_what_it_is(built):
    abi, apk, badging = built
    assert (badging.package, badging.activity) == ("org.fedgate.demo", "org.fedgate.demo.MainActivity")
    assert (badging.min_sdk, badging.target_sdk, badging.abis) == (26, 34, (abi,))
    assert apk.stat().st_size <= 40_000_000


def test_the_apk_has_the_libraries_of_its_abi_to_be_mapped_as_they_lie(built):
    abi, apk, _ = built
    machine = {"x86_64": 62, "arm64-v8a": 183}[abi]  # e_machine of ELF
    names = ("libexecutorch.so", "libfbjni.so", "libc++_shared.so", "libfedgate_ops.so")
    with zipfile.ZipFile(apk) as archive:
        assert archive.testzip() is None
        libraries = {entry.filename: entry for entry in archive.infolist() if entry.filename.startswith("lib/")}
        assert set(libraries) == {f"lib/{abi}/{name}" for name in names}
        for entry in libraries.values():
            assert entry.compress_type == zipfile.ZIP_STORED
            archive.fp.seek(entry.header_offset + 26)
            name, extra = struct.unpack("<HH", archive.fp.read(4))
            assert (entry.header_offset + 30 + name + extra) % 4096 == 0
            data = archive.read(entry)
            assert data[:4] == b"\x7fELF" and struct.unpack_from("<H", data, 18) == (machine,)
        assert archive.read("classes.dex")[:4] == b"dex\n"


def test_an_apk_that_was_changed_after_signing_is_refused(built, tmp_path):
    from offline.apk import check

    abi, apk, _ = built
    check(apk, abi)
    data = bytearray(apk.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "changed.apk").write_bytes(data)
    with pytest.raises(FedgateError, match=r"^the signature is wrong: "):
        check(tmp_path / "changed.apk", abi)


def test_an_apk_for_another_abi_is_refused(built):
    from offline.apk import build, check

    abi, apk, _ = built
    with pytest.raises(FedgateError, match=rf"^the APK says .*'{abi}'.*, and the Gradle project .*'mips'"):
        check(apk, "mips")
    with pytest.raises(FedgateError, match=r"^the app is not built for mips, but for arm64-v8a, x86_64$"):
        build("mips")


def test_the_dex_of_the_apk_answers_as_python(built, harness, bundle, tmp_path):
    android, python = android_and_python(harness, bundle, "masked", 0, tmp_path, dex=True)
    assert np.array_equal(android[0], python[0]) and np.array_equal(android[1], python[1])


def test_a_gradle_script_without_a_field_is_one_line(tmp_path):
    from offline.gradle import SCRIPT, project

    script = SCRIPT.read_text()
    for field in ("namespace", "applicationId", "minSdk", "targetSdk", "versionCode", "versionName", "abiFilters"):
        (tmp_path / "build.gradle.kts").write_text(script.replace(field, "other"))
        with pytest.raises(FedgateError, match=rf"build\.gradle\.kts sets no {field}$"):
            project(tmp_path / "build.gradle.kts")
