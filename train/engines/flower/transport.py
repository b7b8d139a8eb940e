"""What both ends of a Flower connection share: messages as trees of objects, and errors of HTTP in one line.

Flower sends a message as a tree of objects, each in a request of its own: the message, its records, its arrays and
their chunks. So a blob travels as one array of bytes.
"""

import httpx
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects, push_objects
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from fedgate.device_runtime.errors import FedgateError

TEXT, BLOBS = "text", "blobs"


class LinkLostError(FedgateError):
    """The SuperLink does not answer, or knows nothing of us any more: connect again."""


def client_of(kind, address, certificate, component, *interceptors):
    """One of Flower's HTTP clients; certificate: PEM bytes of the authority to trust, None for no TLS."""
    version = RuntimeVersionHttpInterceptor(component_name=component)
    return kind.from_server_address(address, certificate is None, certificate, [version, *interceptors])


def content(text, blobs):
    """A message's records: a text in the config record, named blobs as one array of bytes each."""
    arrays = {name: Array(np.frombuffer(blob, np.uint8)) for name, blob in blobs.items()}
    return RecordDict({TEXT: ConfigRecord({TEXT: text}), BLOBS: ArrayRecord(arrays)})


def parts(message):
    """The inverse of `content`: (text, blobs by name). Raises `FedgateError` for records of another shape."""
    try:
        text, blobs = message.content[TEXT][TEXT], {}
        for name, array in message.content[BLOBS].items():
            value = array.numpy()  # never unpickles
            if value.dtype != np.uint8 or value.ndim != 1:
                raise TypeError(f"{name} is no array of bytes")
            blobs[name] = value.tobytes()
        return text, blobs
    except Exception as error:  # whatever a stranger's records make Flower's own readers raise
        raise FedgateError(f"the message is none of fedgate's: {in_words(error)}") from error


def sealed(message):
    """A message ready to be sent: (itself without content, its object tree, its objects by id)."""
    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        bare = message_to_proto(remove_content_from_message(message))
        return bare, get_object_tree(message), get_all_nested_objects(message)


def push(client, node, run_id, objects, response):
    """Send the objects of a message that the other side's response to it asks for."""
    send = make_push_object_fn_protobuf(client.PushObject, node, run_id, response.session_id)
    push_objects(objects, send, object_ids_to_push=set(response.objects_to_push))


def pull(client, node, run_id, tree):
    """Fetch the objects of a message and put it together."""
    ids = [part.object_id for part in iterate_object_tree(tree)]
    found = pull_objects(ids, make_pull_object_fn_protobuf(client.PullObject, node, run_id))
    message = inflate_object_from_contents(tree.object_id, found)
    if not isinstance(message, Message):
        raise FedgateError("the message is none of Flower's")
    message.metadata.__dict__["_message_id"] = tree.object_id
    return message


def in_words(error):
    """One line about what went wrong."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code} {error.response.text[:200]}"
    return f"{type(error).__name__}: {str(error)[:200]}"
