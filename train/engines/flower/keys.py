"""Certificates of a SuperLink and key pairs of nodes, in one folder: `fedgate flower keys`.

    ca.crt, ca.key            signs the server's certificate; nodes and `fedgate train` trust ca.crt alone
    server.crt, server.key    of the SuperLink, for the names and addresses that it is reached by
    nodes/NAME.pub            public keys of the nodes that may connect; the SuperLink reads them when it starts
    nodes/NAME.key            their private keys, each to be moved to its node

Private keys are readable by their owner alone. All are ECDSA on P-384; nodes' are OpenSSH's files, as
`flower-supernode` and `flwr supernode register` want them.
"""

import datetime
import ipaddress
import os
import re
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.storage import read_file, read_secret, write_file

DAYS = 3650
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def make_keys(folder, hosts=(), nodes=()):
    """Make what a folder lacks: certificates, for these `hosts` where given, and key pairs; returns the new files."""
    folder, made = Path(folder), []
    (folder / "nodes").mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    if not (folder / "ca.key").exists():
        made += make_authority(folder)
    if hosts or not (folder / "server.key").exists():
        made += make_server(folder, hosts)
    for name in nodes:
        made += make_node(folder / "nodes", name)
    return made


def make_authority(folder):
    key, name = new_key(), common_name("fedgate")
    signs = dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
                           "key_agreement", "encipher_only", "decipher_only"), False)  # fmt: skip
    builder = certificate(name, name, key, key).add_extension(x509.BasicConstraints(True, 0), critical=True)
    builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **signs), critical=True)
    return write_pair(folder / "ca", key, builder.sign(key, hashes.SHA256()))


def make_server(folder, hosts):
    """The SuperLink's certificate, for `hosts` and for this machine's loopback."""
    authority = x509.load_pem_x509_certificate(read_file(folder / "ca.crt"))
    signer, key = private_key(folder / "ca.key"), new_key()
    names = [subject_name(host) for host in dict.fromkeys((*LOOPBACK, *hosts))]
    builder = certificate(common_name("fedgate SuperLink"), authority.subject, key, signer)
    builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
    builder = builder.add_extension(usage, critical=False)
    return write_pair(folder / "server", key, builder.sign(signer, hashes.SHA256()))


def make_node(folder, name):
    """The key pair of a node; one that is there is left alone."""
    if not re.fullmatch("client-(0|[1-9][0-9]{0,9})", name):
        raise UsageError(f"'{name}' is no name of a node: client-N, such as client-0, for client N of the runs")
    if (folder / f"{name}.pub").exists():
        return []
    key = new_key()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return [
        write_private(folder / f"{name}.key", key, serialization.PrivateFormat.OpenSSH),
        write_public(folder / f"{name}.pub", public + b"\n"),
    ]


def private_key(path):
    """The private key in a file; one that others may read is refused."""
    blob = read_secret(path)
    load = serialization.load_ssh_private_key if b"OPENSSH" in blob[:60] else serialization.load_pem_private_key
    try:
        return load(blob, None)
    except (ValueError, TypeError) as error:
        raise FedgateError(f"{path} is no private key: {str(error)[:100]}") from error


def registered_nodes(folder):
    """The public keys of the nodes that may connect, as PEM by name."""
    found = {}
    for path in sorted((Path(folder) / "nodes").glob("*.pub")):
        try:
            key = serialization.load_ssh_public_key(read_file(path))
        except ValueError as error:
            raise FedgateError(f"{path} is no public key: {str(error)[:100]}") from error
        found[path.stem] = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return found


def new_key():
    return ec.generate_private_key(ec.SECP384R1())


def common_name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def subject_name(host):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def certificate(subject, issuer, key, signer):
    now = datetime.datetime.now(datetime.UTC)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(identifier, critical=False)
    )


def write_pair(stem, key, made):
    public = write_public(stem.with_suffix(".crt"), made.public_bytes(serialization.Encoding.PEM))
    return [write_private(stem.with_suffix(".key"), key, serialization.PrivateFormat.PKCS8), public]


def write_public(path, blob):
    write_file(path, blob)
    return path


def write_private(path, key, form):
    write_file(path, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()), 0o600)
    return path
