"""Slow sites of a simulation: their updates come rounds later, in a run that can be repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedmri.api.study import Study
from fedmri.config import load
from fedmri.errors import ConfigError, FedmriError
from fedmri.server.late.closed import FILE, ClosedRounds
from fedmri.server.rounds.records import Record
from tests.conftest import TINY, RunTiny

LATE = ("rounds.late=added", "rounds.close_at=0.6")


def test_a_killed_run_with_a_slow_site_is_repeated_to_the_bit(
    run_tiny: RunTiny, tmp_path: Path
) -> None:
    """By the declared slowness after a kill, and by the record of what each round took."""
    settings = [
        *("simulation.arms=[federated]", "rounds.n_rounds=5", "train.is_optimizer_kept=true"),
        *("simulation.slow=[site02:3]", f"simulation.runs={tmp_path}", "name=again", *LATE),
    ]

    def die(record: Record) -> None:
        if record["kind"] == "round_total" and record["round"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tiny("killed", *settings, observe=die)
    folder = run_tiny("killed", *settings)
    arm = folder / "arms" / "federated" / "seed-0"
    closed = ClosedRounds(arm / FILE)
    late = [one.taken.get("site02") for r in range(1, 6) if (one := closed.of(r)) is not None]
    assert late == [None, None, 1, None, None]
    Study.replayed(folder).run(lambda _: None).refuse_other_bits(folder)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["strategy=scaffold", "train.optimizer=sgd", "train.momentum=0"], "C03"),
        (["strategy=feddyn", "train.optimizer=sgd", "train.momentum=0"], "C03"),
        (["strategy=cyclic"], "C03"),
        (["strategy=median"], "C03"),
        (["secagg.is_on=true"], "P57"),
        (["harmonize=coral"], "C03"),
        (["train.frozen=[block1:2]"], "C03"),
        (["rounds.quorum=0.7"], "C01"),
        (["simulation.slow=[site02:1]"], "C01"),
    ],
    ids=lambda found: str(found),
)
def test_what_a_late_update_would_break_is_refused(more: list[str], code: str) -> None:
    """A rule that keeps step with its sites, a sum of all, a stage of each round."""
    with pytest.raises(FedmriError) as refused:
        load([*TINY, *LATE, *more])
    codes = [one.code for one in (refused.value, *refused.value.beside)]
    assert code in codes


def test_slow_sites_need_rounds_that_do_not_wait(tiny: Callable[..., list[str]]) -> None:
    """Else nothing would come of it."""
    study = Study.from_settings(tiny("simulation.slow=[site02:3]"))
    with pytest.raises(ConfigError, match="C03"):
        study.check()
