"""The coordinator's machine moves, and a hospital comes back that was away: no bit knows."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from fedmri.clients.process.enrolment import join
from fedmri.server.registry.home import ServerHome
from fedmri.server.runs import RunFolder
from fedmri.server.transport.superlink import free_port
from fedmri.simulation import demo
from fedmri.simulation.arms import running
from tests.e2e.conftest import plan_of
from tests.e2e.test_standing import fedmri, left_out, until
from tests.latecomers import Latecomers

pytestmark = pytest.mark.slow  # real processes, started twice

AWAY = "site03"


def moved(home: ServerHome, folder: Path) -> ServerHome:
    """Return the server's folder on another machine: from its backup, with another port."""
    shutil.copytree(home.folder, folder, ignore=shutil.ignore_patterns("state"))
    shutil.rmtree(home.folder)
    new = ServerHome(folder)
    text = new.settings_file.read_text(encoding="utf-8")
    port = home_port(text)
    new.settings_file.write_text(text.replace(port, f"port: {free_port()}"), encoding="utf-8")
    done = fedmri(folder, "server", "renew")
    assert done.returncode == 0, done.stderr
    return ServerHome(folder)


def home_port(text: str) -> str:
    """Return the line of a server's settings that names its port."""
    found = re.search(r"^port: \d+", text, re.M)
    assert found is not None
    return found[0]


def test_a_run_goes_on_elsewhere_and_with_who_was_away(
    hospitals: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS, with the same authority: sites join by their new files and train on."""
    made = demo.make_consortium(tmp_path, demo.own_folders(hospitals, tmp_path / "scans"))
    rounds = ("rounds.n_rounds=12", "rounds.min_sites=2", "rounds.quorum=0.6")
    plan = plan_of("name=moving", *rounds, "strategy=fedbn", "model.norm=batch")
    there = {name: site for name, site in made.sites.items() if name != AWAY}
    with demo.running(replace(made, sites=there)):
        run = demo.submit(made, plan, "moving")
        until(lambda: 3 in left_out(run), "three rounds without the third hospital")
    server = moved(made.server, tmp_path / "elsewhere")
    for name, site in made.sites.items():
        join(site, server.enrolments / f"{name}.json")
    again = RunFolder(server.runs / run.name)
    with demo.running(demo.Consortium(server, made.sites)):
        sha256 = demo.wait(again, 240, lambda _: None)
    missed = [index for index, codes in left_out(again).items() if AWAY in codes]
    assert missed == list(range(1, len(missed) + 1))
    assert 2 <= len(missed) < 12
    late = partial(Latecomers, {AWAY: len(missed) + 1})
    monkeypatch.setattr(running, "InProcessGrid", late)
    assert sha256 == demo.simulated(plan, hospitals, tmp_path / "simulated", cache)
