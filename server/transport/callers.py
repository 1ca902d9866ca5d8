"""Who calls SuperLink and for whom: flwr's names that are not public but needed to tell that."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature
from google.protobuf.message import DecodeError

FLEET = "/v1/fleet/"
CALLS = (
    *("activate-node", "deactivate-node", "send-node-heartbeat"),
    *("get-run", "get-fab", "pull-messages", "push-messages"),
    *("pull-object", "push-object", "confirm-message-received"),
)
OPEN = frozenset(FLEET + call for call in CALLS)
"""Paths of a node's calls. Not among them: how a node enters or leaves the registry."""
STANDING = "/fedmri/standing"
"""Path by which a site asks whether it is still enrolled: nobody else learns it."""
MEMBER, REVOKED = 204, 410
PULL, PUSH = FLEET + "pull-messages", FLEET + "push-messages"
PUSH_OBJECT = FLEET + "push-object"
SIGNED = (
    FLEET_HTTP_PUBLIC_KEY_HEADER.lower().encode(),
    FLEET_HTTP_SIGNATURE_HEADER.lower().encode(),
)
SIGNED_TIME = TIMESTAMP_HEADER.lower().encode()


@dataclass(frozen=True)
class Caller:
    """The registered node that signed a call.

    Attributes:
        node_id: Its id.
        mark: What no two signatures have in common, however they are written down.
    """

    node_id: int
    mark: int


@dataclass(frozen=True)
class Asker:
    """Who asks how it stands: the status that it is answered with, and the signature's mark."""

    status: int
    mark: int


def asker_of(known: Mapping[bytes, bool], headers: Mapping[bytes, bytes]) -> Asker | None:
    """Return what the holder of an enrolled key is told of itself, or None where nobody signed.

    Args:
        known: Whether each key of the registry was revoked.
        headers: The call's, their names in lower case.
    """
    try:
        key, signature = (b64decode(headers[name], validate=True) for name in SIGNED)
        is_signed = key in known and verify_signature(
            bytes_to_public_key(key), headers[SIGNED_TIME], signature
        )
        if not is_signed:
            return None
        status = REVOKED if known[key] else MEMBER
        return Asker(status, decode_dss_signature(signature)[0])
    except (KeyError, ValueError):
        return None


def caller_of(state: Any, headers: Mapping[bytes, bytes]) -> Caller | None:
    """Return who signed a call, or None where no registered node did.

    SuperLink asks the same, and whether the time is right, but not before it has the whole call.

    Args:
        state: SuperLink's state.
        headers: The call's, their names in lower case.
    """
    try:
        key, signature = (b64decode(headers[name], validate=True) for name in SIGNED)
        node_id = state.get_node_id_by_public_key(key)
        if node_id is None:
            return None
        signed = headers[SIGNED_TIME]
        if not verify_signature(bytes_to_public_key(key), signed, signature):
            return None
        # the other of the two numbers has two values that both pass
        return Caller(node_id, decode_dss_signature(signature)[0])
    except (KeyError, ValueError):
        return None


def is_answer_of(node_id: int, body: bytes) -> bool:
    """Tell whether a push holds one answer, in the name of the node that pushes it.

    SuperLink takes an order from any node that says it is the server, and an answer in the name of
    any other.
    """
    try:
        request = PushMessagesRequest.FromString(body)
    except DecodeError:
        return False
    said = [message.metadata for message in request.messages_list]
    is_own = all(one.src_node_id == node_id and one.reply_to_message_id for one in said)
    return is_own and len(said) == len(request.message_object_trees) == 1
