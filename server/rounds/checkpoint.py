"""Checkpoints of a run: complete or absent, whatever is killed and whenever."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fedmri.errors import RoundError, told
from fedmri.machine.files import write_tensors
from fedmri.models.weights import digest as digest  # whoever has the one asks for the other
from fedmri.round import ServerState, Weights
from fedmri.trained.file.names import PARAMETERS

N_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """State of a run after a round.

    Attributes:
        round_index: Last complete round; 0 before the first.
        state: Model and strategy's memory.
        notes: What else a resumed run needs: records' length, best score.
    """

    round_index: int
    state: ServerState
    notes: dict[str, Any]


def save_weights(path: Path, weights: Weights, notes: dict[str, Any]) -> None:
    """Write weights, and notes of JSON beside them; see ``write_tensors``."""
    write_tensors(path, weights, {"notes": json.dumps(notes)})


def load_weights_file(path: Path) -> tuple[Weights, dict[str, Any]]:
    """Return what ``save_weights`` wrote, or the weights and the card of a finished model.

    Raises:
        RoundError: The file is damaged (R06).
    """
    try:
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if not name.startswith(PARAMETERS)]  # noqa: SIM118  # no iterator
            weights = {name: file.get_tensor(name) for name in names}
            return weights, json.loads(file.metadata()["notes"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        fix = "delete it: the run then goes on from the checkpoint before it"
        want = "a complete safetensors file of fedmri"
        found = told(error)
        raise RoundError("R06", f"checkpoint {path}", found=found, want=want, fix=fix) from error


class Checkpoints:
    """The checkpoints of a run in a folder; the last two are kept.

    Writing runs beside the next round's training: the model of a finished round is not changed
    until the round after it ends, and ``wait`` is called before that.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        self._writer: threading.Thread | None = None
        self._error: BaseException | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, checkpoint: Checkpoint) -> None:
        """Start writing a checkpoint."""
        self.wait()
        self._writer = threading.Thread(
            target=self._guarded, args=(lambda: self._write(checkpoint),)
        )
        self._writer.start()

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk; raise what went wrong with it."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None.

        Raises:
            RoundError: It belongs to another plan (R06).
        """
        for path in sorted(self._folder.glob("round-*.safetensors"), reverse=True):
            try:
                tensors, notes = load_weights_file(path)
            except RoundError:
                continue  # damaged on disk: the one before it still gives the same bits
            if notes["plan"] != self._fingerprint:
                raise self._foreign(path, notes["plan"])
            return Checkpoint(int(notes["round"]), _state(tensors), notes["more"])
        return None

    def _write(self, checkpoint: Checkpoint) -> None:
        path = self._folder / f"round-{checkpoint.round_index:06d}.safetensors"
        notes = {
            "plan": self._fingerprint,
            "round": checkpoint.round_index,
            "more": checkpoint.notes,
        }
        save_weights(path, _flat(checkpoint.state), notes)
        for old in sorted(self._folder.glob("round-*.safetensors"))[:-N_KEPT]:
            old.unlink()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # raised again by wait(), in the run's thread
            self._error = error

    def _foreign(self, path: Path, plan: str) -> RoundError:
        fix = "resume with the configuration in the run folder, or start a new run"
        found = f"plan {plan[:12]}"
        want = f"plan {self._fingerprint[:12]}"
        return RoundError("R06", f"checkpoint {path}", found=found, want=want, fix=fix)


def _flat(state: ServerState) -> Weights:
    flat = {f"model/{name}": value for name, value in state.model.items()}
    for slot, weights in state.memory.items():
        flat |= {f"memory/{slot}/{name}": value for name, value in weights.items()}
    return flat


def _state(tensors: Weights) -> ServerState:
    model: Weights = {}
    memory: dict[str, Weights] = {}
    for key, value in tensors.items():
        kind, name = key.split("/", 1)
        if kind == "model":
            model[name] = value
        else:
            slot, name = name.split("/", 1)
            memory.setdefault(slot, {})[name] = value
    return ServerState(model, memory=memory)
