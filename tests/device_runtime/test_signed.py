"""Signed files: what a key signs it alone has signed, and nothing else passes; keys as text."""

import hashlib
import hmac
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.signed import TRAILER, derive_key, parse_key, read_key, signer, unsigned

SECRET = bytes(range(32))
CLIENTS = st.integers(0, 2**31 - 1)


@given(st.binary(max_size=200), CLIENTS)
def test_what_a_key_signs(blob, client):
    key = derive_key(SECRET, "run", client)
    file = key.sign(blob)
    assert len(file) == len(blob) + TRAILER == len(blob) + 48
    assert signer(file) == client and unsigned(file) == blob and key.has_signed(file)
    signed = blob + client.to_bytes(8, "little")  # as the format says, by other means
    assert file == signed + hmac.new(key.secret, signed, "sha256").digest() + b"fedgate1"
    others = ((SECRET, "run", client ^ 1), (SECRET, "ru", client), (b"?", "run", client))
    assert not any(derive_key(*other).has_signed(file) for other in others)


@given(st.binary(max_size=100), st.integers(0), st.integers(1, 255))
def test_a_file_with_another_byte_is_not_what_was_signed(blob, where, change):
    key = derive_key(SECRET, "run", 3)
    file = bytearray(key.sign(blob))
    file[where % len(file)] ^= change
    assert signer(file) != 3 or not key.has_signed(file)


@given(st.binary(max_size=100))
def test_any_bytes_have_a_signer_or_none(file):
    client = signer(file)
    assert client is None or not derive_key(SECRET, "run", client).has_signed(file)
    assert signer(file + b"fedgate1") is None or len(file) >= 40


@given(CLIENTS, st.sampled_from(["", " ", "\n", "\r\n"]))
def test_a_key_is_a_line_of_text(client, end):
    key = derive_key(SECRET, "3f-run_1", client)
    assert parse_key(key.text() + end, "it") == key
    assert hashlib.sha256(key.secret).digest() and key.secret.hex() not in repr(key)


@given(st.one_of(st.text(), st.text("fedgate-key:1:r0123456789abcdef", max_size=120)))
def test_other_texts_are_refused_without_being_shown(text):
    with pytest.raises(FedgateError, match=r"^it is no key of a client: fedgate key RUN --client N makes one$"):
        parse_key(text, "it")


@pytest.mark.parametrize("client", ["-1", "", "2147483648", "99999999999", "1_0", "\u0661"])
def test_a_keys_client_is_a_number_in_range(client):
    with pytest.raises(FedgateError, match="is no key"):
        parse_key(f"fedgate-key:1:run:{client}:{'0' * 64}", "it")


def test_a_key_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "a.key"
    path.write_text(derive_key(SECRET, "run", 3).text())
    os.chmod(path, 0o640)
    with pytest.raises(FedgateError, match=rf"{path} can be read by others than its owner: chmod 600"):
        read_key(path)
    os.chmod(path, 0o600)
    assert read_key(path).client == 3
    path.write_bytes(b"\xff" * 2**20)
    with pytest.raises(FedgateError, match=rf"{path} is no key of a client"):
        read_key(path)
