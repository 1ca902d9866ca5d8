"""Flower's SuperNode as a process that either serves or ends, so that it can be started again.

Flower's own command has three ways to live on without a connection: it takes a connection that
breaks in the middle of the TLS handshake for a wrong certificate and gives up; its HTTP server
keeps a process alive whose main thread has given up; and an error ends the thread of its signs of
life alone. In each, the server never hears of the site again. And where a run ends while its order
is on the way, Flower leaves a task behind that waits for hours for the rest, before all others.
Where the order was whole by then, its answer passes for that of the next order.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from flwr.app import Message
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.retry import RetryInvoker
from flwr.supercore.run import RunNotRunningException
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli.flower_supernode import flower_supernode

from fedmri.machine.pauses import Pauses

LOST_THREAD = 3
PULL, PUSH = "_pull_and_store_message", "_push_messages"
CALLS = ("pull_object", "confirm_message_received")
SHORTEST_S, LONGEST_S = 0.1, 3.0
"""Between two questions for an order, or two looks for the site's own answer."""
MAKE_INVOKER = "make_simple_http_retry_invoker"


def main() -> None:
    """Run the SuperNode that ``fedmri client`` starts, with Flower's own arguments."""
    threading.excepthook = _end
    names = vars(fleet_http_connection)
    make = names[MAKE_INVOKER]
    names[MAKE_INVOKER] = lambda: patient(make())
    loop = vars(start_client_internal)
    orders = OneAtATime(loop[PULL], loop[PUSH])
    loop[PULL], loop[PUSH] = orders.pull, orders.push
    loop["time"] = Watch()
    code: Any = 1
    try:
        flower_supernode()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001  # outermost frame: the traceback goes into the log
        sys.excepthook(*sys.exc_info())
    _leave(code if isinstance(code, int) else 1)


class Watch:
    """The clock of Flower's loop: it asks for orders often while they come, and seldom else.

    Flower's own asks every three seconds, so that an order and its answer took four.
    """

    def __init__(self) -> None:
        self._pauses, self._last_s = Pauses(SHORTEST_S, LONGEST_S), 0.0

    def sleep(self, seconds: float) -> None:
        """Wait until it is worth looking again.

        Args:
            seconds: Of Flower's own pause, another for an order than for the site's own answer.
        """
        if seconds != self._last_s:  # an order has come, or was answered
            self._pauses.restart()
        self._last_s = seconds
        time.sleep(min(seconds, self._pauses.next_s()))

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def patient(invoker: RetryInvoker) -> RetryInvoker:
    """Let an invoker try again after whatever broke off, however Flower reads it."""
    gives_up = invoker.should_giveup
    assert gives_up is not None
    invoker.should_giveup = lambda error: not is_broken_off(error) and gives_up(error)
    return invoker


class OneAtATime:
    """An order and its answer, and no other order between: the server takes it for given up.

    Args:
        pull: Flower's fetching of an order; gives None where there is none.
        push: Flower's waiting for an answer, and its sending.
    """

    def __init__(self, pull: Callable[..., int | None], push: Callable[..., None]) -> None:
        self._pull, self._push, self._order = pull, push, ""

    def pull(self, **given: Any) -> int | None:
        """Fetch an order; clean up where its run has ended.

        Flower does so after every exception but its own for this case, which is no ``Exception``.
        """

        def receive() -> tuple[Message, ObjectTree] | None:
            found: tuple[Message, ObjectTree] | None = given["receive"]()
            self._order = found[0].metadata.message_id if found is not None else ""
            return found

        calls = {name: _ordinary(given[name]) for name in CALLS}
        return self._pull(**given | calls | {"receive": receive})

    def push(self, **given: Any) -> None:
        """Wait for the order's answer and send it; so it does with one of an order before."""
        state = _Noting(given["state"])
        while self._order not in state.done:
            self._push(**given | {"state": state})


class _Noting:
    """Flower's state of a SuperNode, and the messages that it is done with."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self.done: set[str] = set()

    def delete_messages(self, *, message_ids: Sequence[str]) -> None:
        """Delete messages, as Flower does with an order once its answer was sent or cannot be."""
        self._state.delete_messages(message_ids=message_ids)
        self.done.update(message_ids)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


def _ordinary(call: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any) -> Any:
        try:
            return call(*arguments)
        except RunNotRunningException as error:
            raise RuntimeError("the run has ended") from error

    return called


def is_broken_off(error: Exception) -> bool:
    """Tell whether a call failed on its way, and not for what the two sides said to each other."""
    return isinstance(error, httpx.TransportError) and "certificate" not in str(error).lower()


def _end(lost: threading.ExceptHookArgs) -> None:
    threading.__excepthook__(lost)
    _leave(LOST_THREAD)


def _leave(code: int) -> None:
    """End the process, whatever its threads still wait for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
