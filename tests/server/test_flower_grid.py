"""One request finds the answers to all orders; each is put together when it is its turn."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedResponse, PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid

from fedmri.server.transport import flower_grid
from fedmri.server.transport.flower_grid import OneLook
from fedmri.wire.grid import identify_task, sent


class Client:
    """Flower's client of a SuperLink with answers; it counts what is asked of it."""

    def __init__(self, replies: list[Message]) -> None:
        self.replies = replies
        self.calls: list[str] = []
        self.objects: dict[str, bytes] = {}

    def PullMessages(self, request: Any) -> PullAppMessagesResponse:  # noqa: N802
        """Return the heads of the answers to what is asked about, once."""
        self.calls.append("look")
        there = [r for r in self.replies if r.metadata.reply_to_message_id in request.message_ids]
        self.replies = [reply for reply in self.replies if reply not in there]
        for reply in there:
            vars(reply.metadata)["_message_id"] = reply.object_id
            parts = get_all_nested_objects(reply).items()
            self.objects |= {name: part.deflate() for name, part in parts}
        trees = [get_object_tree(reply) for reply in there]
        heads = [message_to_proto(remove_content_from_message(reply)) for reply in there]
        return PullAppMessagesResponse(messages_list=heads, message_object_trees=trees)

    def PullObject(self, request: Any) -> PullObjectResponse:  # noqa: N802
        """Return a part of an answer."""
        self.calls.append("part")
        content = self.objects[request.object_id]
        return PullObjectResponse(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(self, _: Any) -> ConfirmMessageReceivedResponse:  # noqa: N802
        """Forget it."""
        self.calls.append("whole")
        return ConfirmMessageReceivedResponse()


def test_one_look_serves_all_sites_and_parts_wait_for_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 200 sites, a request for each would take longer than the pause between two looks."""
    identify_task()
    monkeypatch.setattr(flower_grid, "FRESH_S", 60.0)
    orders = [sent(Message(RecordDict(), node, "train", ttl=60.0)) for node in (1, 2, 3)]
    ids = [order.metadata.message_id for order in orders]
    text = [RecordDict({"c": ConfigRecord({"of": i})}) for i in ids]
    replies = [Message(c, reply_to=o) for c, o in zip(text[:2], orders[:2], strict=True)]
    grid = HttpGrid("127.0.0.1:1", insecure=True, token="t")
    grid._run = Run.create_empty(1)
    client = Client(replies)
    grid._client = client  # type: ignore[assignment]  # as its calls are used
    monkeypatch.setattr(grid, "push_messages", lambda messages: ids)
    OneLook(grid)
    grid.push_messages(orders)
    assert list(grid.pull_messages([ids[2]])) == []
    assert client.calls == ["look"]
    for i in ids[:2]:
        [reply] = grid.pull_messages([i])
        assert str(reply.content["c"]["of"]) == i
        assert list(grid.pull_messages([i])) == []
    assert client.calls.count("look") == 1
    assert client.calls.count("whole") == 2
