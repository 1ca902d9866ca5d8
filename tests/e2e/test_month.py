"""A month of a consortium in minutes: real processes, and everything that happens in a month."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from fedmri.clients.consent.withdrawn import Withdrawn
from fedmri.clients.training.own_data import prepare_own
from fedmri.config import load
from fedmri.data.synthetic.data_set import SyntheticConfig, generate
from fedmri.server.late.closed import FILE
from fedmri.server.runs import Post
from fedmri.simulation import demo
from fedmri.simulation.arms import running
from tests.conftest import TINY
from tests.e2e.month import Bereft, Month, live_through
from tests.e2e.test_silent import records

pytestmark = pytest.mark.slow  # fifty processes, ten minutes

N_SITES = 20
LONGEST_S = 1500.0
SETTINGS = (
    *("rounds.n_rounds=18", "rounds.evaluate_every=6", "rounds.timeout_s=240"),
    *("rounds.min_sites=11", "rounds.quorum=0.5", "rounds.close_at=0.55", "rounds.late=added"),
)


def test_a_month_ends_with_the_bits_of_its_replay(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody who is away stops it, and each hospital is told its own story."""
    data = tmp_path / "hospitals"
    generate(data, SyntheticConfig(n_sites=N_SITES, n_subjects=6, spacing_mm=8), 0)
    month = Month(
        demo.make_consortium(tmp_path / "c", demo.own_folders(data, tmp_path / "scans")),
        tmp_path / "mailbox",
    )
    month.prepare()
    events = {
        2: month.refuse,
        3: month.night,
        4: month.fall,
        5: month.day,
        6: month.restart,
        8: month.withdraw,
        9: month.revoke,
        11: month.night,
        12: month.move,
        14: month.day,
        16: month.night,
    }
    plan = load([*TINY, "name=month", *SETTINGS]).plan
    post = Post(str(month.mailbox), (month.cast.carried, month.cast.job))
    with month.going_on():
        run = demo.submit(month.consortium, plan, month.name, post)
        sha256 = live_through(month, events, LONGEST_S)
        for name in month.consortium.sites:
            month.read(name)
    run = month.going
    bereft = month.site(month.cast.bereft)
    gone = Withdrawn.of(bereft)
    without = prepare_own(bereft.config, plan, month.cast.bereft, cache, tmp_path / "without", gone)
    of_bereft = [one for one in records(run, "round") if one["site"] == month.cast.bereft]
    used = [one for one in of_bereft if one["status"] == "ok"]
    [n_after, n_before] = sorted({one["n_subjects"] for one in used})
    assert n_after == n_before - 1
    rounds = frozenset(one["trained"] for one in used if one["n_subjects"] == n_after)
    grid = partial(Bereft, month.cast.bereft, json.dumps([str(without)]), rounds)
    monkeypatch.setattr(running, "InProcessGrid", grid)
    again = demo.simulated(plan, data, tmp_path / "again", cache, run.path / FILE)
    assert sha256 == again
    everybody_was_told(month)


def everybody_was_told(month: Month) -> None:
    """..."""
    import pprint

    Path("/tmp/w/month/told.txt").write_text(
        pprint.pformat({k: sorted(v) for k, v in month.told.items()}, width=200)
        + pprint.pformat(sorted(month.said), width=200)
    )
