"""Answers that come to any size: a few bytes that name one piece a million times."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.proto.fleet_pb2 import (
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    add_header_to_object_body,
    get_all_nested_objects,
    get_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.superlink.grid import http_grid

from fedmri.clients.process.flower import bound_orders
from fedmri.plan import Plan
from fedmri.server.transport.allowance import MOST_OBJECTS, MOST_WAITING, Allowance, n_objects
from fedmri.server.transport.inflating import bound_answers
from fedmri.swollen import COPIES, SLACK, refuse_swollen
from fedmri.tasks.kinds.classification import Classification
from fedmri.wire import bundle, pack
from tests.e2e.front import FLEET, Front, signed, with_id
from tests.e2e.test_intrusion import front, order

__all__ = ["front", "order"]
pytestmark = [  # of what flwr calls
    pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),
]
PLAN = Plan(Classification("lesion", ("mass", "spots")))
MODEL = {"w": torch.zeros(1000)}
PIECE = np.zeros(250_000, np.float32)  # 1 MB
TIMES = 100_000


class Swollen(Array):
    """An array that names its one piece many times."""

    def deflate(self) -> bytes:
        """Return its head: a few hundred kilobytes that stand for 100 GB."""
        body = {
            "dtype": self.dtype,
            "shape": self.shape,
            "stype": self.stype,
            "arraychunk_ids": [0] * TIMES,
        }
        return add_header_to_object_body(object_body=json.dumps(body).encode(), obj=self)


Swollen.__qualname__ = "Array"


def swollen() -> ArrayRecord:
    """Return a record of it."""
    honest, record = Array(PIECE), ArrayRecord()
    record["w"] = Swollen(honest.dtype, honest.shape, honest.stype, honest.data)
    return record


def repeated() -> ArrayRecord:
    """Return a record that names one array many times."""
    one = Array(PIECE)
    return ArrayRecord({f"w{i}": one for i in range(2000)})


def records() -> dict[str, ArrayRecord]:
    """Return many records that are one."""
    one = ArrayRecord({f"w{i}": Array(PIECE) for i in range(20)})
    return {f"extra.{i}": one for i in range(100)}


ANSWERS = {
    "one piece a hundred thousand times": lambda: {"model": swollen()},
    "one array two thousand times": lambda: {"model": repeated()},
    "one record a hundred times": records,
}


def inflated(object_id: str, parts: dict[str, bytes]) -> InflatableObject:
    """Put an object together as the server's grid does."""
    found: InflatableObject = vars(http_grid)["inflate_object_from_contents"](object_id, parts)
    return found


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Bound the answers of this process, and take the bound away again."""
    before = vars(http_grid)["inflate_object_from_contents"]
    bound_answers(PLAN, MODEL)
    yield
    vars(http_grid)["inflate_object_from_contents"] = before


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_would_swell_is_refused_before_it_does(name: str) -> None:
    """Its parts are looked at, and none is copied."""
    content = RecordDict({**ANSWERS[name]()})
    parts = {key: part.deflate() for key, part in get_all_nested_objects(content).items()}
    assert sum(map(len, parts.values())) < SLACK
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a message of [\d,]+ bytes"):
        inflated(content.object_id, dict(parts))
    assert tracemalloc.get_traced_memory()[1] < SLACK
    tracemalloc.stop()


def test_an_honest_answer_passes() -> None:
    """Also one whose pieces are alike: of zeros Flower sends one piece."""
    zeros = {"w": torch.zeros(4_000_000)}  # four equal pieces
    bound_answers(PLAN, zeros)
    content = bundle(RecordDict({"model": pack(zeros), "extra.a": pack(zeros)}))
    parts = {key: part.deflate() for key, part in get_all_nested_objects(content).items()}
    arrived = inflated(content.object_id, dict(parts))
    assert arrived.object_id == content.object_id
    assert inflate_object_from_contents(content.object_id, parts).object_id == content.object_id


def test_the_bound_is_that_of_the_plan() -> None:
    """To the byte, whatever holds them; an object that holds itself has no size."""
    content = ArrayRecord({"w": Array(PIECE)})
    parts = {key: part.deflate() for key, part in get_all_nested_objects(content).items()}
    whole = sum(map(len, parts.values()))
    refuse_swollen(content.object_id, parts, whole)
    with pytest.raises(ValueError, match=f"{whole:,}"):
        refuse_swollen(content.object_id, parts, whole - 1)
    assert whole + SLACK > COPIES * 4000 + SLACK


@pytest.fixture
def bounded_site() -> Iterator[None]:
    """Bound the orders of this process, as a site's worker does."""
    before = vars(inflatable_utils)["inflate_object_from_contents"]
    bound_orders()
    yield
    vars(inflatable_utils)["inflate_object_from_contents"] = before


@pytest.mark.usefixtures("bounded_site")
@pytest.mark.parametrize("name", ANSWERS)
def test_an_order_that_would_swell_is_refused_by_the_site(name: str) -> None:
    """The server may be the hostile one: what it sends is not copied either."""
    content = RecordDict({**ANSWERS[name]()})
    parts = {key: part.deflate() for key, part in get_all_nested_objects(content).items()}
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a message of [\d,]+ bytes"):
        vars(inflatable_utils)["inflate_object_from_contents"](content.object_id, parts)
    assert tracemalloc.get_traced_memory()[1] < SLACK
    tracemalloc.stop()


@pytest.mark.usefixtures("bounded_site")
def test_an_honest_order_passes() -> None:
    """A model, and a strategy's extras that begin as zeros."""
    model = {"w": torch.randn(4_000_000)}
    zeros = {"w": torch.zeros(4_000_000)}
    content = bundle(RecordDict({"model": pack(model), "extra.control": pack(zeros)}))
    parts = {key: part.deflate() for key, part in get_all_nested_objects(content).items()}
    arrived = vars(inflatable_utils)["inflate_object_from_contents"](content.object_id, parts)
    assert arrived.object_id == content.object_id


def test_a_swollen_answer_over_the_real_front_costs_its_site_the_round(
    front: Front, order: Message
) -> None:
    """Pushed as a site pushes, over TLS: the server notes R03, and asks on."""
    content = RecordDict({"model": swollen(), "order": ConfigRecord({"a": 1})})

    def answer(asked: Message) -> None:
        push(front, with_id(Message(content, reply_to=asked)))

    answers = front.asked(order, answer, 20.0)
    assert [(taken.content, taken.code) for taken in answers] == [(None, "R03")]


def test_a_site_cannot_fill_the_disk_with_an_answer_that_never_ends(
    front: Front, order: Message
) -> None:
    """It pushes piece after piece: what its order may be answered with is taken, and no more."""
    pushes: list[tuple[int, int]] = []

    def answer(asked: Message) -> None:
        pieces = {f"w{i}": Array(np.full(1_000_000, i, np.float32)) for i in range(40)}
        content = RecordDict({"model": ArrayRecord(pieces)})  # 160 MB, in pieces of 4
        pushes.extend(push(front, with_id(Message(content, reply_to=asked))))

    front.asked(order, answer, 5.0)
    assert {status for status, _ in pushes} == {200, 413}
    most = MOST_WAITING * SLACK
    assert SLACK / 2 < sum(n_bytes for status, n_bytes in pushes if status == 200) <= most

    honest = RecordDict({"model": ArrayRecord({"w": Array(PIECE)})})

    def honestly(asked: Message) -> None:
        push(front, with_id(Message(honest, reply_to=asked)))

    answers = front.asked(order, honestly, 20.0)
    assert [found.content is not None for found in answers] == [True]


def test_a_site_is_allowed_the_answers_to_its_orders() -> None:
    """Each order gives one, few wait for long, and garbage gives none."""
    allowance = Allowance(lambda: 100)
    assert [allowance.take(7, 60), allowance.take(7, 60)] == [True, False]  # of before a restart
    handed_out = PullMessagesResponse()
    allowance.give(7, handed_out.SerializeToString())
    allowance.give(7, b"garbage")
    assert not allowance.take(7, 60)
    handed_out.messages_list.add()
    for _ in range(99):
        allowance.give(7, handed_out.SerializeToString())
    assert allowance.take(7, 100 * MOST_WAITING)
    assert not allowance.take(7, 1)
    assert allowance.take(8, 100)


def test_an_answer_of_more_objects_than_answers_have_is_refused(
    front: Front, order: Message
) -> None:
    """Each would be a row in the server's database before a byte of it has arrived."""
    many = [ObjectTree(object_id=f"{i:064x}") for i in range(MOST_OBJECTS)]
    tree = ObjectTree(object_id="f" * 64, children=many)
    request = PushMessagesRequest(message_object_trees=[tree])
    assert n_objects(request.SerializeToString()) == MOST_OBJECTS + 1
    statuses: list[int] = []

    def answer(asked: Message) -> None:
        reply = with_id(Message(RecordDict(), reply_to=asked))
        vars(reply.metadata)["_src_node_id"] = front.ids["b"]
        statuses.append(front.push("b", remove_content_from_message(reply), tree).status_code)

    front.asked(order, answer, 5.0)
    assert statuses == [413]


def push(front: Front, reply: Message) -> list[tuple[int, int]]:
    """Push an answer and its objects as site b; return the status and bytes of each object."""
    vars(reply.metadata)["_src_node_id"] = front.ids["b"]
    parts = get_all_nested_objects(reply)
    response = front.push("b", remove_content_from_message(reply), get_object_tree(reply))
    pushed, pushes = PushMessagesResponse.FromString(response.content), []
    for key in pushed.objects_to_push:
        part = PushObjectRequest(
            node=Node(node_id=front.ids["b"]),
            run_id=front.run,
            object_id=key,
            object_content=parts[key].deflate(),
            session_id=pushed.session_id,
        )
        response = front.call(FLEET + "push-object", part, signed(front.keys["b"]))
        pushes.append((response.status_code, len(part.object_content)))
    return pushes
