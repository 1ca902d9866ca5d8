"""A month of a consortium in minutes: real processes, and all that happens in a month."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from fedmri.clients.consent.withdrawn import Withdrawn
from fedmri.clients.training.own_data import prepare_own
from fedmri.config import load
from fedmri.data.synthetic.data_set import SyntheticConfig, generate
from fedmri.plan import Plan
from fedmri.server.late.closed import FILE
from fedmri.server.runs import Post
from fedmri.simulation import demo
from fedmri.simulation.arms import running
from tests.conftest import TINY
from tests.e2e.month import REASON, Bereft, Month, live_through
from tests.e2e.test_silent import records
from tests.e2e.test_standing import fedmri

pytestmark = pytest.mark.slow  # fifty processes, ten minutes

N_SITES = 20
LONGEST_S = 1800.0
OWN_WORDS = ("[P11]", "[P18]", "[P19]")
"""Codes by which a hospital itself gives nothing: it is not told that it was left out."""
SETTINGS = (
    *("rounds.n_rounds=8", "rounds.evaluate_every=4", "rounds.timeout_s=240"),
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
        1: (month.refuse, month.night),
        2: (month.fall, month.day),
        3: (month.restart, month.withdraw),
        4: (month.revoke, month.night),
        5: (month.move,),
    }
    plan = load([*TINY, "name=month", *SETTINGS]).plan
    post = Post(str(month.mailbox), (month.cast.carried, month.cast.job))
    with month.going_on():
        demo.submit(month.consortium, plan, month.name, post)
        sha256 = live_through(month, events, LONGEST_S)
        for name in month.consortium.sites:
            month.read(name)
    again = replayed(month, plan, data, tmp_path, cache, monkeypatch)
    assert again == sha256
    status = fedmri(month.consortium.server.folder, "server", "status", month.name).stdout
    assert "finished" in status
    assert sha256 in status
    everybody_was_told(month)
    the_coordinator_was_told(month)


def replayed(  # noqa: PLR0913  # what a replay is made of
    month: Month, plan: Plan, data: Path, folder: Path, cache: Path, patch: pytest.MonkeyPatch
) -> str:
    """Return the SHA-256 of the run's replay, in which the patient withdraws as they did."""
    name, run = month.cast.bereft, month.going
    site = month.site(name)
    gone = Withdrawn.of(site)
    without = prepare_own(site.config, plan, name, cache, folder / "without", gone)
    used = [one for one in records(run, "round") if (one["site"], one["status"]) == (name, "ok")]
    [n_after, n_before] = sorted({one["n_subjects"] for one in used})
    assert n_after == n_before - 1
    after = [one for one in used if one["n_subjects"] == n_after]
    rounds = frozenset(one.get("trained", one["round"]) for one in after)
    grid = partial(Bereft, name, json.dumps([str(without)]), rounds)
    patch.setattr(running, "InProcessGrid", grid)
    return demo.simulated(plan, data, folder / "again", cache, run.path / FILE)


def everybody_was_told(month: Month) -> None:
    """Each hospital's view had its own story, and no other's."""
    cast, hours = month.cast, "(the site trains at other hours)"
    lines = {
        **dict.fromkeys(cast.nightly, f"answered with P19 {hours}"),
        cast.refusing: f"refused by people here: run {month.name}",
        cast.leaving: "REVOKED: the coordinator has shut this site out. Call them [P12].",
        cast.bereft: "A patient withdrew consent. No later plan or round of this site has",
        cast.away: "Its client does not run.",
    }
    for name, line in lines.items():
        assert any(line in told for told in month.told[name]), (name, line)
    for name, told in month.told.items():
        text = "\n".join(told)
        assert ("REVOKED" in text) == (name == cast.leaving)
        assert (hours in text) == (name in cast.nightly)
        assert (REASON in text) == (name == cast.refusing)
        assert ("withdrew" in text) == (name == cast.bereft)
        assert not any("LEFT OUT" in line and own in line for line in told for own in OWN_WORDS)
        is_moved = any("at 127.0.0.2:" in line for line in told)
        assert is_moved == (name != cast.leaving)


def the_coordinator_was_told(month: Month) -> None:
    """Status and page had a sentence of each; no hospital of the mailbox passed for unreachable."""
    cast, asked = month.cast, "It is not asked any more."
    for name in cast.nightly:
        assert any(f"{name} trains at other hours" in text for text in month.said)
    assert f"{cast.refusing} refuses this run: {REASON} [P18]. {asked}" in month.said
    assert f"{cast.leaving} was revoked. {asked}" in month.said
    assert any(text.startswith(f"{cast.away} is not online") for text in month.said)
    codes = [one["rejected"] for one in records(month.going, "round_total")]
    for name in (cast.job, cast.carried):
        assert {one[name] for one in codes if name in one} <= {"P19", "R45"}
