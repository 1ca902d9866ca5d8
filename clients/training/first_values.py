"""Entries of the first model that no round brings to a site, where it starts from a file.

The server sends them once, and they stand on the site's disk. Every order is then read as if it
brought them, so that noise and records hang on them too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from safetensors.torch import load_file

from fedmri.errors import RoundError
from fedmri.machine.files import write_tensors
from fedmri.models.weights import digest
from fedmri.round import Weights
from fedmri.wire import START, EvaluateOrder, SumsOrder, TrainOrder

AnOrder = TypeVar("AnOrder", TrainOrder, EvaluateOrder, SumsOrder)


class FirstValues:
    """The entries, in a file of a site's folder for a run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def beside(self, order: AnOrder) -> AnOrder:
        """Return an order with the entries, which are on the disk from now on.

        Raises:
            RoundError: They were never sent, or are other ones than before (R12).
        """
        sent = order.extra.get(START)
        if self._path.exists():
            kept = load_file(self._path)
            if sent is not None and digest(sent) != digest(kept):
                raise _unfit("other ones than those that this site keeps")
            return replace(order, extra={**order.extra, START: kept})
        if sent is None:
            raise _unfit("none, neither sent nor kept")
        self._write(sent)
        return order

    def _write(self, values: Weights) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(self._path, values, {})


def _unfit(found: str) -> RoundError:
    fix = "nothing: the server sends them with its next order; if not, start the run anew"
    want, what = "those of the run's first model", "entries that the model starts from"
    return RoundError("R12", what, found=found, want=want, fix=fix)
