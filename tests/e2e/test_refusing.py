"""A hospital refuses a run and comes back, in a consortium of real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmri.clients.consent.approval import approve_as_person, seen_plan
from fedmri.clients.consent.refusal import refuse_run
from fedmri.clients.egress.ledger import entries
from fedmri.server.views.notices import notices
from fedmri.server.views.status import read_run
from fedmri.simulation import demo
from tests.e2e.conftest import plan_of
from tests.e2e.test_standing import left_out, until

pytestmark = pytest.mark.slow  # a story of a minute

ONE, REASON = "site01", "our ethics board meets in June"


@pytest.fixture
def consortium(hospitals: Path, tmp_path: Path) -> Iterator[demo.Consortium]:
    """Run a coordinator and three hospitals, of which one tells why it refuses."""
    made = demo.make_consortium(tmp_path, demo.own_folders(hospitals, tmp_path / "scans"))
    settings = made.sites[ONE].settings_file
    told = settings.read_text().replace("policy:\n", "policy:\n  is_reason_told: true\n", 1)
    settings.write_text(told)
    with demo.running(made):
        yield made


def test_a_run_goes_on_without_who_refuses_it_and_with_who_comes_back(
    consortium: demo.Consortium,
) -> None:
    """The coordinator reads why; nobody asks the hospital again until it approves."""
    site, server = consortium.sites[ONE], consortium.server
    rounds = ("rounds.n_rounds=400", "rounds.evaluate_every=0", "rounds.min_sites=2")
    run = demo.submit(consortium, plan_of("name=refused", *rounds, "rounds.quorum=0.6"))

    def told() -> str:
        return " ".join(notices(read_run(server, run.name), "2026-01-01T00:00:00Z"))

    until(lambda: 1 in left_out(run), "the first round is done")
    refuse_run(site, run.name, REASON)
    until(lambda: ONE in left_out(run)[max(left_out(run))], "it is left out")
    begun = max(left_out(run))
    assert left_out(run)[begun] == {ONE: "P18"}
    until(lambda: max(left_out(run)) > begun + 1, "the others go on")
    assert f"{ONE} refuses this run" in told()
    assert REASON in told()
    kinds = [line["kind"] for line in entries(site.ledger)]
    assert kinds.count("error") == 1  # it was asked once
    approve_as_person(site, seen_plan(site, run.signed.sha256))
    until(lambda: not left_out(run)[max(left_out(run))], "it takes part again")
    assert "refuses this run" not in told()
    run.ask_to_stop()
