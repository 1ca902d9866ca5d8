"""A simulation that starts from a file of weights: its bits, its plan, and its record."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fedmri.config import load
from fedmri.errors import ConfigError
from fedmri.models.build import build_network
from fedmri.models.pretrained import file_sha256
from fedmri.models.weights import layout, weights
from fedmri.round import Weights
from fedmri.simulation.progress import Bars
from fedmri.trained.file.model_file import read_model
from tests.conftest import TINY, RunTiny
from tests.simulation.test_study import records

ALONE = ("simulation.arms=[federated]", "rounds.n_rounds=0", "simulation.n_pictures=0")


@pytest.fixture
def start(tmp_path: Path) -> tuple[Path, Weights]:
    """Return a file of weights of the tiny study's network, without its head, and the weights."""
    plan = load([*TINY, "seed=7"]).plan
    network = build_network(plan.model, **plan.network)
    values = {name: value.clone() for name, value in weights(network).items()}
    for name in layout(network).head:
        del values[name]
    path = tmp_path / "start.pth"
    torch.save(values, path)
    return path, values


def test_the_first_model_is_that_of_the_file(
    run_tiny: RunTiny, start: tuple[Path, Weights]
) -> None:
    """Without a round the final model is the file's, its head apart, as its record says.

    A terminal says what is seeded.
    """
    path, values = start
    said = StringIO()
    with Bars(load(TINY).plan, Console(file=said, force_terminal=True, width=200)) as bars:
        folder = run_tiny("a", *ALONE, f"simulation.weights={path}", observe=bars)
    (record,) = [row for row in records(folder) if row["kind"] == "start"]
    assert set(record["taken"]) == set(values)
    seeded = ", ".join(record["fresh"])
    assert f"{len(values)} entries of the file taken; seeded: {seeded}." in said.getvalue()
    assert record["resized"] == record["unused"] == []
    assert record["sha256"] == file_sha256(path)
    (found,) = folder.rglob("model.safetensors")
    final = read_model(found).weights
    assert all(torch.equal(final[name], value) for name, value in values.items())


def test_the_plan_has_the_files_hash_and_never_its_path(start: tuple[Path, Weights]) -> None:
    """Equal files make equal plans, wherever they lie."""
    path, _ = start
    copy = path.with_name("copy.pth")
    copy.write_bytes(path.read_bytes())
    one, other, none = (
        load([*TINY, *more]).plan
        for more in ([f"simulation.weights={path}"], [f"simulation.weights={copy}"], [])
    )
    assert one.start.sha256 == file_sha256(path)
    assert one.fingerprint == other.fingerprint != none.fingerprint


def test_a_file_that_changed_since_the_plan_was_made_is_refused_before_anything_is_prepared(
    run_tiny: RunTiny, start: tuple[Path, Weights]
) -> None:
    """The plan that hospitals approved names other bits."""
    path, _ = start
    settings = (*ALONE, f"simulation.weights={path}", f"start.sha256={'0' * 64}")
    with pytest.raises(ConfigError, match=r"want SHA-256 0000.*\[C24\]"):
        run_tiny("b", *settings)
