"""A node's end: what Flower calls a SuperNode, in the client's own process.

It keeps the node's place at the SuperLink, takes one message at a time and sends what a function answers. Where the
connection is lost or the SuperLink was started anew, it comes back by itself.
"""

import contextlib
import json
import logging
import threading
import time

import httpx
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.storage import read_file, write_file

from .transport import client_of, content, in_words, parts, pull, push, sealed

HEARTBEAT = 10.0  # seconds, the shortest that Flower takes; a node that was silent for two is offline
POLL = 1.0
PATIENCE = 3 * HEARTBEAT  # until the place of an earlier process of this node is surely free
RETRIES = (1.0, 2.0, 5.0, 10.0, 20.0)

log = logging.getLogger("fedgate.node")


class RefusedError(FedgateError):
    """The SuperLink does not let this node in."""


class Fleet:
    def __init__(self, address, certificate, key, place):
        """key: the node's private key, None for one of the moment (a SuperLink without TLS takes anybody).

        place: the file that remembers under which id this node was last online.
        """
        self.address, self.certificate, self.place = address, certificate, place
        self.anonymous = key is None
        key = key or generate_key_pairs()[0]
        self.public_key = public_key_to_bytes(key.public_key())
        auth = NodeAuthHttpInterceptor(key, key.public_key())
        self.client = client_of(FleetHttpClient, address, certificate, "SuperNode", auth)
        self.node, self.closing = None, threading.Event()

    def serve(self, answer):
        """Answer messages until `close`. answer: (text, blobs) -> (text, blobs)."""
        tries, heart = 0, threading.Thread(target=self.beat, daemon=True)
        heart.start()
        while not self.closing.is_set():
            try:
                if self.node is None:
                    self.join()
                    log.warning("connected to %s", self.address)
                self.serve_one(answer)
                tries = 0
            except httpx.HTTPError as error:
                wait = RETRIES[min(tries, len(RETRIES) - 1)]
                log.warning("%s: %s; again in %g s", self.address, in_words(error), wait)
                if refused(error):  # the SuperLink was started anew, and gives this node another id
                    self.node = None
                tries += 1
                self.closing.wait(wait)

    def join(self):
        """Take the node's place, also that of an earlier process of it that was killed a moment ago."""
        if self.anonymous:
            with contextlib.suppress(httpx.HTTPStatusError):  # it did so before, and the SuperLink is the same
                self.client.RegisterNode(RegisterNodeFleetRequest(public_key=self.public_key))
        else:
            self.leave(last_place(self.place, self.public_key))
        request = ActivateNodeRequest(public_key=self.public_key, heartbeat_interval=HEARTBEAT)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                node_id = self.client.ActivateNode(request).node_id
                break
            except httpx.HTTPStatusError as error:
                if error.response.status_code >= 500 or time.monotonic() > until:
                    if not refused(error):
                        raise
                    raise RefusedError(
                        f"the SuperLink at {self.address} refuses this node's key: is its public key in the nodes/ "
                        "folder there, and was the SuperLink started since? (or the same key is online elsewhere)"
                    ) from error
            time.sleep(POLL)
        document = {"node": node_id, "key": self.public_key.decode()}
        write_file(self.place, json.dumps(document).encode())
        self.node = Node(node_id=node_id)

    def beat(self):
        while not self.closing.wait(HEARTBEAT * 0.7):
            node = self.node
            with contextlib.suppress(httpx.HTTPError):
                if node is not None:
                    self.client.SendNodeHeartbeat(SendNodeHeartbeatRequest(node=node, heartbeat_interval=HEARTBEAT))

    def serve_one(self, answer):
        """Take a message and answer it, or wait a moment where there is none."""
        response = self.client.PullMessages(PullMessagesRequest(node=self.node))
        if not response.messages_list:
            self.closing.wait(POLL)
            return
        message, tree = message_from_proto(response.messages_list[0]), response.message_object_trees[0]
        run_id = message.metadata.run_id
        started = time.perf_counter()
        try:
            message = pull(self.client, self.node, run_id, tree)
            self.client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(
                    node=self.node, run_id=run_id, message_object_id=message.metadata.message_id
                )
            )
            reply = Message(content(*answer(*parts(message))), reply_to=message)
        except httpx.HTTPError:
            raise
        except Exception as error:
            log.exception("a message could not be answered")
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, in_words(error)), reply_to=message)
        bare, tree, objects = sealed(reply)
        request = PushMessagesRequest(
            node=self.node,
            messages_list=[bare],
            message_object_trees=[tree],
            clientapp_runtime_list=[time.perf_counter() - started],
        )
        try:
            push(self.client, self.node, run_id, objects, self.client.PushMessages(request))
        except httpx.HTTPStatusError as error:
            log.warning("nobody waits for this answer any more: %s", in_words(error))

    def close(self):
        """Give the place back."""
        self.closing.set()
        if self.node is not None:
            self.leave(self.node.node_id)
        self.client.close()

    def leave(self, node_id):
        if node_id is not None:
            with contextlib.suppress(httpx.HTTPError):
                self.client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))


def refused(error):
    """Whether the SuperLink answered that it does not want this request."""
    return isinstance(error, httpx.HTTPStatusError) and 400 <= error.response.status_code < 500


def last_place(path, public_key):
    """The id under which this key was last online, None for none."""
    try:
        document = json.loads(read_file(path))
        return document["node"] if document["key"] == public_key.decode() else None
    except (FedgateError, ValueError, KeyError, TypeError):
        return None
