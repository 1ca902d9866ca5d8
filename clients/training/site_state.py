"""What a site keeps between rounds: on its own disk, atomic, never sent."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fedmri.machine.files import write_whole
from fedmri.round import Weights


@dataclass(frozen=True)
class SiteState:
    """State of a site after a round.

    Attributes:
        local: Entries of the model that stay at the site (FedBN).
        optimizer: State of the optimizer by phase of a round, where it is kept.
        losses: Mean training loss of each round so far.
        memory: What the strategy keeps here.
        stages: What stages of the plan keep here, by their names.
    """

    local: Weights = field(default_factory=dict)
    optimizer: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    losses: tuple[float, ...] = ()
    memory: Mapping[str, Weights] = field(default_factory=dict)
    stages: Mapping[str, Weights] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it: what is trained from another state has another."""
        total = hashlib.sha256()
        _add(total, vars(self))
        return total.hexdigest()


class SiteStates:
    """The states of a site in a run, by round.

    A round that is trained again, after a crash of either side, starts from the state before it,
    so that it gives the same bits.

    Args:
        folder: Where they are written.
        n_kept: Rounds that the server may fall back by, or score the model of. Their states are
            kept, and of those before them the newest: the site may have missed rounds.
    """

    def __init__(self, folder: Path, n_kept: int) -> None:
        self._folder = folder
        self._n_kept = n_kept

    def before(self, round_index: int) -> SiteState | None:
        """Return the newest state from before a round, or None where there is none."""
        for path in sorted(self._folder.glob("round-*.pt"), reverse=True):
            if _round_of(path) < round_index:
                values = torch.load(path, weights_only=True, map_location="cpu")
                return SiteState(**{**values, "losses": tuple(values["losses"])})
        return None

    def save(self, round_index: int, state: SiteState) -> None:
        """Write the state after a round; forget what no round may start from any more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"round-{round_index:06d}.pt"
        whole = io.BytesIO()  # of a full disk, torch would say something else
        torch.save({**vars(state), "losses": list(state.losses)}, whole)
        write_whole(path, whole.getbuffer())
        by_round = {_round_of(path): path for path in self._folder.glob("round-*.pt")}
        older = sorted(r for r in by_round if r <= round_index - self._n_kept + 1)
        far_later = [r for r in by_round if r >= round_index + self._n_kept]
        for forgotten in older[:-1] + far_later:
            by_round[forgotten].unlink()


def _add(total: hashlib._Hash, value: object) -> None:
    if isinstance(value, torch.Tensor):
        total.update(repr((str(value.dtype), tuple(value.shape))).encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        _add(total, len(value))
        for name in sorted(value, key=str):
            _add(total, name)
            _add(total, value[name])
    elif isinstance(value, list | tuple):
        _add(total, len(value))
        for each in value:
            _add(total, each)
    else:
        total.update(f"{value!r} ".encode())


def _round_of(path: Path) -> int:
    return int(path.stem.split("-")[1])
