"""`fedgate client`: a client on this machine. `fedgate flower`: keys, the SuperLink, files for systemd."""

import logging
from pathlib import Path

import click

from fedgate.device_runtime import text
from fedgate.device_runtime.runtime_option import runtime_option

from .service import unit_option

PORT = 8000
NEEDED = "this needs Flower: pip install 'fedgate[flower]'"


def say(line):
    text.say(f"fedgate: {line}", err=True)


def show_log():
    """What servers and nodes have to say, a line each, on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(text.LogFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler])


def authority(ca, insecure, address):
    """The certificate to trust, PEM bytes, or None where the user wants no TLS."""
    from fedgate.device_runtime.errors import UsageError
    from fedgate.device_runtime.storage import read_file

    if insecure and ca:
        raise UsageError("give either --ca FILE or --insecure")
    if insecure:
        say(f"WARNING: --insecure: what goes to and from {address} can be read and changed by anybody on the way")
        return None
    if not ca:
        raise UsageError("whom to trust? give --ca FILE, the ca.crt of fedgate flower keys (or --insecure)")
    return read_file(ca)


def check_flower():
    from fedgate.device_runtime.errors import UsageError

    try:
        import flwr  # noqa: F401
    except ImportError as error:
        raise UsageError(NEEDED) from error


def check_address(address):
    from fedgate.device_runtime.errors import UsageError

    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"'{address}' is no HOST:PORT such as 10.0.0.1:{PORT}")
    return address


def checked_superlink(address, ca, insecure, patience, timeout):
    """The options of `fedgate train` as a `Superlink`."""
    from fedgate.device_runtime.errors import UsageError

    if not address:
        raise UsageError("--ca and --insecure go with --superlink")
    check_flower()
    from .engine import Superlink

    show_log()
    check_address(address)
    return Superlink(address, authority(ca, insecure, address), patience, timeout)


@click.command(short_help="Train as a client of a run on another machine.")
@click.option("--superlink", required=True, metavar="HOST:PORT", help="The SuperLink to join.")
@click.option("--client", type=click.IntRange(0), required=True, metavar="N", help="Which client of the run this is.")
@click.option("--ca", type=click.Path(), metavar="FILE", help="Trust the certificate that this ca.crt has signed.")
@click.option("--key", type=click.Path(), metavar="FILE", help="This node's private key.")
@click.option("--insecure", is_flag=True, help="No TLS and no key: for a SuperLink that was started so.")
@click.option(
    "--data",
    type=click.Path(),
    metavar="DIR",
    help="The run's data, where they lie elsewhere on this machine. With --bundle: images by label, this client's own.",
)
@click.option("--bundle", type=click.Path(), metavar="FILE", help="Train the tail of this bundle, without torch.")
@runtime_option("With --bundle: litert or executorch.  [the first that is installed]")
@click.option("--work", type=click.Path(), metavar="DIR", help="What the client keeps.  [fedgate-client-N]")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Of training; only with 1 the result is the simulation's, bit for bit.",
)
@click.option("--own-code", is_flag=True, help="Execute a network's file here, where the run's --model is one.")
@unit_option("fedgate: a client of federated training")
def client(superlink, client, ca, key, insecure, data, bundle, runtime, work, device, threads, own_code):
    """Train as client N of runs that are started at a SuperLink, until stopped.

    It holds the part of the run's data that the simulation's client N holds, and keeps between rounds what a client
    keeps. It executes no code that comes from the server. With --bundle, of the run that the server's is --base of, it
    trains the tail on a runtime and needs no torch.

    \b
    Example:
      fedgate client --superlink 10.0.0.1:8000 --ca ca.crt --key client-0.key --client 0
      fedgate client --superlink pi:8000 --ca ca.crt --key client-1.key --client 1 --bundle a.fedgate --data photos
    """
    from fedgate.device_runtime.errors import UsageError

    check_flower()
    check_address(superlink)
    certificate = authority(ca, insecure, superlink)
    if insecure == bool(key):
        raise UsageError("a node needs its --key, except with --insecure")
    show_log()
    if bool(runtime) > bool(bundle) or bool(bundle) > bool(data):
        raise UsageError("--bundle FILE needs --data DIR, and --runtime goes with it")
    from .fleet import Fleet
    from .keys import private_key

    work = Path(work or f"fedgate-client-{client}")
    if bundle:
        worker = tail_worker(client, work, bundle, data, runtime, threads)
    else:
        worker = torch_worker(client, work, data, device, own_code, threads)
    fleet = Fleet(superlink, certificate, private_key(key) if key else None, work / "place.json")
    try:
        fleet.serve(worker.answer)
    finally:
        fleet.close()


def tail_worker(client, work, bundle, data, runtime, threads):
    """What trains on a device: the tail of a bundle."""
    from .tail_learner import TailLearner
    from .worker import Worker

    def learner(document, number, trunk):
        return TailLearner(document, bundle, data, work / "features", runtime, threads)

    return Worker(client, work, runtime or "tail", learner, has_trunk=True)


def torch_worker(client, work, data, device, own_code, threads):
    """What trains on a workstation: the run's network, with torch."""
    from .torch_learner import TorchLearner, set_threads
    from .worker import Worker

    def learner(document, number, trunk):
        return TorchLearner(document, number, trunk, data, device, own_code)

    set_threads(threads)
    return Worker(client, work, "torch", learner)


@click.group(short_help="Keys, the SuperLink and services for clients on other machines.")
def flower():
    """What a federation of machines needs beside fedgate train and fedgate client.

    \b
    Example:
      fedgate flower keys keys --host 10.0.0.1 --node client-0 --node client-1
      fedgate flower superlink --keys keys --host 0.0.0.0
    """


@flower.command(short_help="Make the certificates of a SuperLink and its nodes' keys.")
@click.argument("folder", type=click.Path())
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="A name or an address of the SuperLink's machine.")
@click.option("--node", "nodes", multiple=True, metavar="client-N", help="The node of client N.")
def keys(folder, hosts, nodes):
    """Make the certificates of a SuperLink and the keys of its nodes, as far as they are not in FOLDER yet.

    Each node gets its FOLDER/nodes/NAME.key and FOLDER/ca.crt; NAME.pub stays: it is what lets the node in.

    \b
    Example:
      fedgate flower keys keys --host 10.0.0.1 --node client-0 --node client-1
    """
    check_flower()
    from .keys import make_keys

    for path in make_keys(folder, hosts, nodes):
        text.say(str(path))


@flower.command(short_help="Run a SuperLink, through which nodes and runs meet.")
@click.option("--keys", type=click.Path(), metavar="DIR", help="The folder of fedgate flower keys.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="On which port.")
@click.option("--insecure", is_flag=True, help="No TLS, and anybody is let in.")
@unit_option("fedgate: Flower's SuperLink")
def superlink(keys, host, port, insecure):
    """Run a SuperLink: over TLS, for the nodes whose public keys are in DIR/nodes, without telemetry.

    Only nodes are served on all addresses; whoever trains has to be on this machine. It keeps nothing on disk.

    \b
    Example:
      fedgate flower superlink --keys keys --host 0.0.0.0
    """
    from fedgate.device_runtime.errors import UsageError

    check_flower()
    if insecure == bool(keys):
        raise UsageError("give --keys DIR, of fedgate flower keys (or --insecure)")
    if insecure:
        say("WARNING: --insecure: no TLS, and every node that asks is let in")
    from .superlink import serve

    serve(keys, host, port)
