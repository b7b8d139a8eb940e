"""Flower's SuperLink, started as a federation on one's own machines wants it: `fedgate flower superlink`.

Over TLS, open to registered nodes alone, without telemetry, update checks and installation of what an app asks for; it
runs no app itself. Flower serves its three interfaces on one port: the one for nodes checks their keys, but whoever
reaches the other two may register nodes and start runs. So these two answer to this machine alone.
"""

import ipaddress
from pathlib import Path

import uvicorn
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.superlink.main import create_app

from fedgate.device_runtime.errors import FedgateError

from .keys import registered_nodes

FOR_NODES = "/v1/fleet/"


class ThisMachineAlone:
    """ASGI middleware: requests from other machines reach what is for nodes, and nothing else."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        peer = (scope.get("client") or ("",))[0]
        if scope["type"] == "http" and not scope["path"].startswith(FOR_NODES) and not is_loopback(peer):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self.app(scope, receive, send)


def is_loopback(address):
    try:
        address = ipaddress.ip_address(address)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def serve(keys, host, port):
    """Run a SuperLink until it is stopped; keys: as in `make_app`.

    It keeps everything in memory: nodes are registered from the folder at each start, and come back by themselves, and
    a run goes on with its clients' last round.
    """
    app, certificates = make_app(keys)
    uvicorn.run(app, host=host, port=port, log_level="warning", proxy_headers=False, **certificates)


def make_app(keys):
    """The SuperLink as an ASGI app, and uvicorn's options for its certificates.

    keys: the folder of `make_keys`, or None for no TLS and nodes that nobody asks who they are.
    """
    app, certificates = create_app(), {}
    if keys is not None:
        keys = Path(keys)
        if not (keys / "server.key").is_file():
            raise FedgateError(f"{keys} has no certificate of a SuperLink: make one with fedgate flower keys {keys}")
        app.state.enable_supernode_auth = True
        register(app.state.linkstate_factory.state(), registered_nodes(keys))
        certificates = {"ssl_certfile": keys / "server.crt", "ssl_keyfile": keys / "server.key"}
    app.add_middleware(ThisMachineAlone)
    return app, certificates


def register(state, nodes):
    """Let these nodes connect: public keys by name."""
    for name, key in nodes.items():
        state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, 0, name=name)
