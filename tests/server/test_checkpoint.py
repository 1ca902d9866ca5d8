"""Checkpoints are complete or absent."""

from __future__ import annotations

import itertools
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from fedmri.errors import RoundError
from fedmri.round import ServerState
from fedmri.server.rounds.checkpoint import Checkpoint, Checkpoints, digest, load_weights_file
from tests.conftest import forked


def state(value: float) -> ServerState:
    """Return a state with a model and a strategy's memory."""
    return ServerState(
        {"w": torch.full((4,), value), "n": torch.tensor(3)},
        memory={"momentum": {"w": torch.full((4,), -value)}},
    )


def test_a_checkpoint_reads_back_to_the_bit(tmp_path: Path) -> None:
    """Model, memory, notes and 0-dimensional integers survive."""
    checkpoints = Checkpoints(tmp_path, "plan")
    checkpoints.write(Checkpoint(7, state(0.1), {"n_bytes": 12}))
    checkpoints.wait()
    found = checkpoints.latest()
    assert found is not None
    assert (found.round_index, found.notes) == (7, {"n_bytes": 12})
    assert digest(found.state.model) == digest(state(0.1).model)
    assert digest(found.state.memory["momentum"]) == digest(state(0.1).memory["momentum"])


def test_there_is_none_in_a_new_folder(tmp_path: Path) -> None:
    """A run that never completed a round starts at the beginning."""
    assert Checkpoints(tmp_path / "new", "plan").latest() is None


def test_the_newest_is_taken_and_two_are_kept(tmp_path: Path) -> None:
    """Disk use does not grow with rounds."""
    checkpoints = Checkpoints(tmp_path, "plan")
    for round_index in range(1, 6):
        checkpoints.write(Checkpoint(round_index, state(round_index), {}))
    checkpoints.wait()
    found = checkpoints.latest()
    assert found is not None
    assert found.round_index == 5
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64, None])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: bytes | None) -> None:
    """After bit rot the checkpoint before it still gives the same bits."""
    checkpoints = Checkpoints(tmp_path, "plan")
    for round_index in (1, 2):
        checkpoints.write(Checkpoint(round_index, state(round_index), {}))
    checkpoints.wait()
    newest = tmp_path / "round-000002.safetensors"
    newest.write_bytes(newest.read_bytes()[:-8] if damage is None else damage)
    found = checkpoints.latest()
    assert found is not None
    assert found.round_index == 1


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    """Going on with other settings would give a result that is neither plan's."""
    first = Checkpoints(tmp_path, "one")
    first.write(Checkpoint(1, state(1), {}))
    first.wait()
    with pytest.raises(RoundError, match=r"plan one.*plan two.*\[R06\]"):
        Checkpoints(tmp_path, "two").latest()


def test_what_goes_wrong_while_writing_is_raised(tmp_path: Path) -> None:
    """A full or vanished disk must not be found at the next resume."""
    checkpoints = Checkpoints(tmp_path / "gone", "plan")
    (tmp_path / "gone").rmdir()
    checkpoints.write(Checkpoint(1, state(1), {}))
    with pytest.raises(Exception, match="gone"):
        checkpoints.wait()


def test_the_digest_sees_names_types_shapes_and_bits() -> None:
    """Equal digests mean equal weights: -0.0 and 0.0 differ, and so do shapes."""
    models = [
        {"w": torch.tensor([0.0, 1.0])},
        {"w": torch.tensor([-0.0, 1.0])},
        {"v": torch.tensor([0.0, 1.0])},
        {"w": torch.tensor([[0.0, 1.0]])},
        {"w": torch.tensor([0.0, 1.0], dtype=torch.float64)},
    ]
    assert len({digest(model) for model in models}) == len(models)


def write_for_ever(folder: Path, begun: int) -> None:
    """Write a checkpoint after the other; say so once before the first."""
    checkpoints, model = Checkpoints(folder, "plan"), {"w": torch.zeros(500_000)}
    os.write(begun, b"go")
    for round_index in itertools.count(1):
        model["w"].fill_(round_index)
        checkpoints.write(Checkpoint(round_index, ServerState(model), {}))
        checkpoints.wait()


def test_a_killed_writer_leaves_only_whole_files(tmp_path: Path) -> None:
    """SIGKILL at any moment: every file under a checkpoint's name is whole."""
    for delay_ms in (1, 7, 13, 29):
        hears, begun = os.pipe()
        writer = forked(partial(write_for_ever, tmp_path, begun))
        os.read(hears, 2)
        time.sleep(delay_ms / 1000)  # the moment of the kill is the point of this test
        os.kill(writer, signal.SIGKILL)
        assert os.waitpid(writer, 0)[1] == signal.SIGKILL
        os.close(hears)
        os.close(begun)
        for path in tmp_path.glob("round-*.safetensors"):
            weights, notes = load_weights_file(path)
            assert torch.equal(weights["model/w"], torch.full((500_000,), float(notes["round"])))
