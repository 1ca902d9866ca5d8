"""Models of earlier rounds that sites still train from, on the disk until nobody does."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fedmri.round import Weights
from fedmri.server.rounds.checkpoint import load_weights_file, save_weights


class SentModels:
    """The shared entries of a run's model, by the round in which they were sent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, round_index: int, weights: Weights) -> None:
        """Write what was sent in a round."""
        self._folder.mkdir(exist_ok=True)
        save_weights(self._path(round_index), weights, {"round": round_index})

    def of(self, round_index: int) -> Weights:
        """Return what was sent in a round."""
        return load_weights_file(self._path(round_index))[0]

    def forget_others(self, rounds: Collection[int]) -> None:
        """Delete all but the models of some rounds."""
        kept = {self._path(one) for one in rounds}
        for path in self._folder.glob("*.safetensors"):
            if path not in kept:
                path.unlink()

    def _path(self, round_index: int) -> Path:
        return self._folder / f"sent-{round_index:06d}.safetensors"
