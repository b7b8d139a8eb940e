"""The server's end: a Flower run on a SuperLink, the nodes that are there, and messages to and from them.

The process that trains is the run's ServerApp itself. Flower would have a ServerApp start inside the SuperLink, from an
archive of code (a FAB) that nodes get and execute too. Here the archive only names the app, as a run needs one: it is
empty of code, the training stays in the process that the user started, and nodes run what is installed on them.
"""

import contextlib
import hashlib
import io
import threading
import zipfile

import httpx
from flwr.app import Message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode, SubStatus
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    GetNodesRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushAppMessagesRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import NodeStatus, TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity

from .transport import LinkLostError, client_of, content, in_words, parts, pull, push, sealed

HEARTBEAT = 10.0  # seconds; Flower ends a run whose ServerApp was silent for 60
PROJECT = """[project]
name = "fedgate"
version = "1.0.0"

[tool.flwr.app]
publisher = "fedgate"

[tool.flwr.app.components]
serverapp = "fedgate:server"
clientapp = "fedgate:client"
"""


class Link:
    """A Flower run. Every method raises `LinkLostError` where the SuperLink is gone or has forgotten the run."""

    def __init__(self, address, certificate):
        """address: HOST:PORT; certificate: as in `client_of`."""
        self.node, self.closing = Node(node_id=SUPERLINK_NODE_ID), threading.Event()
        with self.lost():
            self.run_id = start_run(address, certificate)
            token = claim(address, certificate, self.run_id)
            auth = RuntimeTokenHttpInterceptor(token=token)
            self.client = client_of(RuntimeHttpClient, address, certificate, "flwr-serverapp", auth)
            task = self.client.PullTaskInput(PullTaskInputRequest())
        # What Flower's Message reads when one is made.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = task.task_id, self.run_id, SUPERLINK_NODE_ID
        self.heart = threading.Thread(target=self.beat, daemon=True)
        self.heart.start()

    def beat(self):
        while not self.closing.wait(HEARTBEAT):
            with contextlib.suppress(httpx.HTTPError):  # whoever uses the link will notice
                self.client.SendTaskHeartbeat(SendTaskHeartbeatRequest())

    def nodes(self):
        """The nodes that are online: {id: (name that it is registered under or "", when it came online)}."""
        with self.lost():
            found = self.client.GetNodes(GetNodesRequest()).nodes
        return {node.node_id: (node.name, node.last_activated_at) for node in found if node.status == NodeStatus.ONLINE}

    def ask(self, node_id, kind, text, blobs, seconds):
        """Send a message of a kind of Flower's ("train", "query"); returns its id. seconds: until it is void."""
        message = Message(content(text, blobs), node_id, kind, ttl=seconds)
        bare, tree, objects = sealed(message)
        request = PushAppMessagesRequest(messages_list=[bare], message_object_trees=[tree])
        with self.lost():
            response = self.client.PushMessages(request)
            push(self.client, self.node, self.run_id, objects, response)
        return response.message_ids[0]

    def answers(self, ids):
        """What has come for messages: {id: (text, blobs), or a text about what is wrong, or None for a lost node}."""
        found = {}
        with self.lost():
            response = self.client.PullMessages(PullAppMessagesRequest(message_ids=ids))
        for bare, tree in zip(response.messages_list, response.message_object_trees, strict=True):
            asked = bare.metadata.reply_to_message_id
            with self.lost():
                found[asked] = self.answer(tree)
                self.client.ConfirmMessageReceived(
                    ConfirmMessageReceivedRequest(
                        node=self.node, run_id=self.run_id, message_object_id=bare.metadata.message_id
                    )
                )
        return found

    def answer(self, tree):
        try:
            message = pull(self.client, self.node, self.run_id, tree)
            if not message.has_error():
                return parts(message)
            if message.error.code in (ErrorCode.NODE_UNAVAILABLE, ErrorCode.MESSAGE_UNAVAILABLE):
                return None
            return f"the node reports: {message.error.reason or f'error {message.error.code}'}"
        except httpx.HTTPError:
            raise
        except Exception as error:  # a stranger wrote these bytes, and Flower's readers may raise anything
            return f"the answer cannot be read: {in_words(error)}"

    def close(self):
        """End the run, so that nodes are told to drop its messages."""
        self.closing.set()
        with contextlib.suppress(httpx.HTTPError):
            self.client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.COMPLETED, details=""))
        self.client.close()

    @contextlib.contextmanager
    def lost(self):
        try:
            yield
        except httpx.HTTPError as error:
            raise LinkLostError(in_words(error)) from error


def start_run(address, certificate):
    """Have the SuperLink make a run; returns its id."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("pyproject.toml"), PROJECT)
    archive = packed.getvalue()
    with contextlib.closing(client_of(ControlHttpClient, address, certificate, "flwr")) as control:
        fab = Fab(hash_str=hashlib.sha256(archive).hexdigest(), content=archive)
        return control.StartRun(StartRunRequest(fab=fab)).run_id


def claim(address, certificate, run_id):
    """Take the run's ServerApp upon us; returns the token that proves it."""
    with contextlib.closing(client_of(RuntimeHttpClient, address, certificate, "flwr-serverapp")) as runtime:
        while True:
            taken = runtime.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
            if not taken.token:
                raise LinkLostError("another process took this run's place: is the SuperLink one of fedgate flower?")
            if taken.task.run_id == run_id:
                return taken.token
            # else one that a process left behind when it was killed here: unused, it expires
