"""Batches that are made while a step computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item], n_ahead: int) -> Iterator[Item]:
    """Yield the items of an iterator, which a thread of its own works through.

    One thread alone draws from it, in order: the items are the same whatever is ahead. What goes
    wrong in the thread is raised where its item would have come.

    Args:
        items: It is left where it is if its user stops early, up to ``n_ahead`` items further on.
        n_ahead: Items that are made before they are asked for; 0 makes each when it is.
    """
    if not n_ahead:
        yield from items
        return
    end = object()
    pool = ThreadPoolExecutor(1, "batches")
    waiting: deque[Future[object]] = deque()
    try:
        waiting.extend(pool.submit(next, items, end) for _ in range(n_ahead))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]  # no end, so an item
    finally:
        pool.shutdown(cancel_futures=True)
