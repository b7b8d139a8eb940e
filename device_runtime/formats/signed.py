"""Files that prove which client of a run they are of: keys, and what they put behind an update.

A signed file is the bytes of an update, then a trailer of `TRAILER` bytes: the client as uint64, little-endian; the
HMAC-SHA256 (RFC 2104), under that client's key, of everything before it; and `MAGIC`. One file, so that it appears by
one rename, and is checked before anything in it is parsed.

A key is 32 bytes. The server keeps one secret for each run, from which all keys of its clients are derived, so that a
key speaks for one client in one run alone. As text it is one line: fedgate-key:1:RUN:CLIENT:64 hexadecimal digits.
"""

import hashlib
import hmac
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import FedgateError
from ..storage import read_secret
from .update import MOST

MAGIC = b"fedgate1"
KEY_BYTES = 32
TRAILER = 8 + hashlib.sha256().digest_size + len(MAGIC)
TEXT = re.compile(r"fedgate-key:1:([0-9A-Za-z_-]{1,64}):([0-9]{1,10}):([0-9a-f]{64})")


@dataclass(frozen=True)
class ClientKey:
    """The key of a client in a run."""

    run: str
    client: int
    secret: bytes = field(repr=False)

    def text(self) -> str:
        return f"fedgate-key:1:{self.run}:{self.client}:{self.secret.hex()}"

    def sign(self, blob: bytes) -> bytes:
        """A signed file of an update's bytes."""
        signed = blob + struct.pack("<Q", self.client)
        return signed + self._code(signed) + MAGIC

    def has_signed(self, file: bytes) -> bool:
        """Whether a file with a trailer was signed with this key."""
        signed, code = file[: -hashlib.sha256().digest_size - len(MAGIC)], file[8 - TRAILER : -len(MAGIC)]
        return hmac.compare_digest(self._code(signed), code)

    def _code(self, signed):
        return hmac.digest(self.secret, signed, "sha256")


def derive_key(secret: bytes, run: str, client: int) -> ClientKey:
    """The key of a client, from the secret of its run."""
    return ClientKey(run, client, hmac.digest(secret, f"fedgate client\0{run}\0{client}".encode(), "sha256"))


def signer(file: bytes) -> int | None:
    """The client that a file says has signed it; None where it is not signed."""
    if len(file) < TRAILER or not file.endswith(MAGIC):
        return None
    return struct.unpack_from("<Q", file, len(file) - TRAILER)[0]


def unsigned(file: bytes) -> bytes:
    """The update in a signed file."""
    return file[:-TRAILER]


def parse_key(text: str, name: str) -> ClientKey:
    """The key that a line of text is. Raises `FedgateError` for others; name: what is wrong then, never the text."""
    found = TEXT.fullmatch(text.strip())
    if found is None or int(found[2]) > MOST:
        raise FedgateError(f"{name} is no key of a client: fedgate key RUN --client N makes one")
    return ClientKey(found[1], int(found[2]), bytes.fromhex(found[3]))


def read_key(path: Path) -> ClientKey:
    """The key in a file. Raises `FedgateError` for one that others may read, or that holds none."""
    return parse_key(read_secret(path)[:1000].decode("ascii", "replace"), str(path))
