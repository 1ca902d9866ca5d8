"""Several terms of one loss: each counts, whoever adds it."""

from __future__ import annotations

import pytest

from tests.conftest import RunTiny
from tests.simulation.test_study import model_of

SHORT = ("simulation.arms=[federated]", "rounds.n_rounds=2")  # MOON has a last model in the second
CORAL = ("harmonize=[coral,fedharmony]", "stages.coral.strength=0.5")


@pytest.mark.parametrize(
    ("one", "both", "without"),
    [
        (("harmonize=fedharmony",), CORAL, (*CORAL[:1], "stages.coral.strength=0")),
        (
            ("strategy=moon",),
            ("strategy=moon", "harmonize=coral", "stages.coral.strength=0.5"),
            ("strategy=moon", "harmonize=coral", "stages.coral.strength=0"),
        ),
    ],
    ids=["two stages", "a stage and a strategy"],
)
def test_no_term_is_lost_when_two_are_there(
    run_tiny: RunTiny, one: tuple[str, ...], both: tuple[str, ...], without: tuple[str, ...]
) -> None:
    """Two together train another model than either; a term of strength 0 leaves the other whole."""
    alone = model_of(run_tiny("one", *SHORT, *one))
    other = model_of(run_tiny("other", *SHORT, "harmonize=coral", "stages.coral.strength=0.5"))
    together = model_of(run_tiny("both", *SHORT, *both))
    assert len({alone, other, together}) == 3
    assert model_of(run_tiny("without", *SHORT, *without)) == alone
