"""The same work on many items, on several cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

FEW = 32
"""Fewer scans than these take less time than processes to start, on two cores."""

Item = TypeVar("Item")


def side_by_side(work: Callable[[Item], None], items: Sequence[Item], n_workers: int) -> None:
    """Call a function on each item, in processes of their own where that is faster.

    The processes end with the call, and give their memory back.

    Args:
        work: What it does is left on disk. A lambda will do, of what can be pickled.
        items: In any order.
        n_workers: Processes; one is this process.
    """
    if n_workers < 2 or len(items) < FEW:
        for item in items:
            work(item)
        return
    from joblib import Parallel, delayed  # slow to import, and seldom needed
    from joblib.externals.loky import get_reusable_executor

    try:
        Parallel(n_jobs=n_workers)(delayed(work)(item) for item in items)
    finally:
        get_reusable_executor().shutdown()
