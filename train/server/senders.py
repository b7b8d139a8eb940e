"""Who a file in the inbox is of: the run's secret, the clients' keys that come from it, and what they have signed."""

import fcntl
import os
import secrets
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats.signed import KEY_BYTES, derive_key, signer, unsigned
from fedgate.device_runtime.storage import read_file, read_secret, write_file

from .run_directory import RunDirectory

SECRET = "inbox.key"


class Senders:
    """Those who may send files to a run.

    clients: how many the run has itself. Only with `anybody` a file is taken that is not signed, for one of these.
    """

    def __init__(self, folder, run, clients, anybody=False):
        self.secret, self.run, self.clients, self.anybody = run_secret(Path(folder)), run, clients, anybody

    def key(self, client):
        return derive_key(self.secret, self.run, client)

    def open(self, file):
        """(bytes of the update, the client that has signed it, or None) of a file; `FedgateError` where it proves none.

        Nothing of the update is looked at.
        """
        client = signer(file)
        if client is not None:
            if not self.key(client).has_signed(file):
                raise FedgateError(f"it was not signed with the key of client {client}")
            return unsigned(file), client
        if not self.anybody:
            raise FedgateError("it is not signed: fedgate finetune --key does that, and fedgate key makes the key")
        return file, None

    def why_not(self, client, said):
        """Why an update that says it is of client `said` is not taken from who sent it; None where it is."""
        if client is None:
            number = f"the run has clients 0 to {self.clients - 1}"
            return None if said < self.clients else f"it is of client {said}, and {number}: others need a key"
        return None if said == client else f"it says that it is of client {said}, and client {client} has signed it"


def run_secret(folder):
    """The secret of a run's folder, which is made where there is none yet."""
    path, lock = folder / SECRET, os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes must not make two
        if not path.exists():
            write_file(path, secrets.token_bytes(KEY_BYTES), 0o600)
    finally:
        os.close(lock)
    secret = read_secret(path)
    if len(secret) != KEY_BYTES:
        raise FedgateError(f"{path} is damaged: put it back, or remove it, which makes all keys of the run void")
    return secret


def make_key(run, client, out):
    """Write the key of a client of the run in folder `run`; returns its path. out: None for client-N.key."""
    directory = RunDirectory.open(run)
    if directory.info.config.inbox is None:
        raise UsageError(f"{run} takes no files: only a run that was started with --inbox DIR does")
    path = Path(out or f"client-{client}.key")
    text = derive_key(run_secret(directory.path), directory.info.run, client).text().encode() + b"\n"
    if path.exists() and read_file(path) != text:
        raise UsageError(f"{path} exists: choose another --out")
    write_file(path, text, 0o600)
    return path
