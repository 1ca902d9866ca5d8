"""Parts of another distribution in a simulation: found by name, run, killed and resumed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from fedmri.agreement.signed_plan import sign_plan
from fedmri.clients.consent.plan_text import describe
from fedmri.clients.consent.policy import SitePolicy
from fedmri.config import load
from fedmri.data.read import read
from fedmri.data.settings import SourceConfig
from fedmri.errors import ConfigError, DataError, FedmriError
from fedmri.outside import forget_hashes
from fedmri.plan import from_dict, to_dict
from fedmri.reports.results import load_results
from fedmri.reports.summary import summarise
from fedmri.reports.text.words import headline
from fedmri.strategies.registry import STRATEGIES
from tests.conftest import RunTiny
from tests.outside.conftest import FEDMRI, python_path
from tests.test_signed_plan import key_pair

Tiny = Callable[..., list[str]]
SILENT = "target.kind=silent_grade"
GRADE = ("target.kind=grade", "target.name=lesion", "target.grades=[spots,wedge,mass]")
PARTS = ("strategy=half_step", "strategy.way=0.25", "model=one_layer", "stages=[gain,late]", *GRADE)


def model_of(where: Path) -> str:
    """Return the hash of the federated model of the only run under a folder."""
    [file] = where.glob("runs/*/arms/federated/seed-0/model.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.slow  # four processes, one after another
def test_it_runs_with_workers_and_is_killed_and_resumed_to_the_same_bits(
    tiny: Tiny, installed: Path, tmp_path: Path
) -> None:
    """Worker processes find the parts too; nothing in fedmri names them."""
    settings = tiny(*PARTS, "simulation.arms=[federated]", "rounds.n_rounds=6")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    env = {**os.environ, "PYTHONPATH": python_path(installed)}
    subprocess.run([*FEDMRI, "simulate", *settings], cwd=whole, env=env, check=True)
    started = subprocess.Popen(
        [*FEDMRI, "simulate", *settings, "simulation.workers=2"],
        cwd=broken,
        env=env,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    pattern = "runs/*/arms/federated/seed-0/checkpoints/round-*"
    while started.poll() is None and not list(broken.glob(pattern)):
        time.sleep(0.02)  # until the first round is safe
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    [run] = (broken / "runs").iterdir()
    subprocess.run([*FEDMRI, "simulate", "--resume", run], cwd=broken, env=env, check=True)
    assert model_of(broken) == model_of(whole)


def test_a_reader_of_its_own_finds_scans_by_the_looks_of_a_folder(
    at_hand: Path, hospitals: Path, tmp_path: Path
) -> None:
    """A table of files beside the scans of BIDS is read like the BIDS folder itself."""
    bids = read(SourceConfig(path=str(hospitals)))
    rows = [
        {"subject": s.subject, "site": s.site, "T1w": str(s.images["T1w"]), "lesion": lesion}
        for s in bids.scans
        for lesion in [s.columns["lesion"]]
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "listing.tsv", sep="\t", index=False)
    listed = read(SourceConfig(path=str(tmp_path)))
    assert [(s.site, s.subject, s.images) for s in listed.scans] == [
        (s.site, s.subject, s.images) for s in bids.scans
    ]
    with pytest.raises(DataError, match=r"want .*listing.tsv.*\[D04\]"):
        read(SourceConfig(path=str(at_hand / "atlas_parts")))


def test_a_protocol_of_its_own_chooses_arms_and_rows(at_hand: Path, run_tiny: RunTiny) -> None:
    """Its rows stand in the table under its own labels, and no others do."""
    folder = run_tiny("pairs", "simulation.protocol=pairs", "rounds.n_rounds=1")
    plan = load(["experiment=smoke"]).plan
    summary = summarise(load_results(folder), plan.target, n_bootstrap=100)
    sites = [f"local:site0{i} alone" for i in (1, 2, 3)]
    labels = [row.label for row in summary.rows]
    assert labels == ["federated alone", *sites, "baseline alone", "linear alone"]


def test_a_task_of_its_own_is_scored_by_its_own_metric(at_hand: Path, run_tiny: RunTiny) -> None:
    """Beside a guess without an image; its unit, direction and interval stand in its file."""
    folder = run_tiny("grades", *GRADE, "rounds.n_rounds=1", "simulation.arms=[federated]")
    plan = load(["experiment=smoke", *GRADE]).plan
    summary = summarise(load_results(folder), plan.target, n_bootstrap=100)
    assert {row.label for row in summary.rows} == {"federated", "baseline"}
    assert not summary.is_higher_better
    assert headline(summary).startswith("Federated training reached a grades off of")
    assert 0 <= summary.rows[0].overall["grades_off"].value <= 2


def test_where_it_is_not_installed_its_name_is_none() -> None:
    """No part of the distribution is known without it."""
    with pytest.raises(ConfigError, match=r"strategy=half_step: found an unknown name.*\[C02\]"):
        load(["strategy=half_step"])


def test_a_plan_names_the_distribution_and_the_hash_of_its_files(at_hand: Path) -> None:
    """What is read back is the same plan; another hash, or none installed, is refused."""
    plan = load(["experiment=smoke", *PARTS]).plan
    values = to_dict(plan)
    origin = values["strategy"]["origin"]
    assert origin["distribution"] == "atlas-parts==1.0"
    assert from_dict(values) == plan
    other = {**values["strategy"], "origin": {**origin, "sha256": "0" * 64}}
    with pytest.raises(ConfigError, match=r"want atlas-parts==1.0 with SHA-256 0000.*\[C41\]"):
        from_dict({**values, "strategy": other})
    borrowed = {"name": "fedavg", "origin": origin}
    with pytest.raises(ConfigError, match=r"found none installed.*\[C41\]"):
        from_dict({**values, "strategy": borrowed})


def test_who_approves_reads_whose_code_it_is(at_hand: Path) -> None:
    """Distribution and hash stand in the text; of fedmri's own parts nothing is said."""
    own, outside = load(["experiment=smoke"]).plan, load(["experiment=smoke", *PARTS]).plan
    private, _ = key_pair(1)
    texts = [describe(sign_plan(plan, private), SitePolicy()) for plan in (own, outside)]
    assert "CODE OF" not in texts[0]
    origin = STRATEGIES.origin("half_step")
    assert origin is not None
    assert (
        texts[1].count(f"CODE OF atlas-parts==1.0, installed here, files SHA-256 {origin.sha256}")
        == 5
    )


def test_another_byte_in_its_files_is_another_hash(at_hand: Path) -> None:
    """The hash is of what Python would run, wherever the installer wrote it."""
    registry = STRATEGIES
    before = registry.origin("half_step")
    file = at_hand / "atlas_parts" / "one_layer.py"
    text = file.read_text()
    file.write_text(text + "\n")
    forget_hashes()
    after = registry.origin("half_step")
    file.write_text(text)
    forget_hashes()
    assert before != after
    assert before == registry.origin("half_step")


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (("strategy=silent_mean", "secagg.is_on=true"), "P57"),
        (("strategy=silent_mean", "filters.percentile=50"), "C31"),
        (("strategy=silent_mean", "privacy.noise_multiplier=1"), "P32"),
        (("strategy=silent_mean", "privacy.site.noise_multiplier=1"), "P67"),
        (("strategy=silent_mean", "harmonize=combat"), "C03"),
        (("model=silent_layer", "privacy.noise_multiplier=1"), "P32"),
        (("stages=[silent_nyul]", "secagg.is_on=true"), "P57"),
        (("stages=[silent_nyul]", "filters.percentile=50"), "C31"),
        (("stages=[silent_nyul]", "privacy.noise_multiplier=1"), "P32"),
        (("stages=[silent_nyul]", "privacy.site.noise_multiplier=1"), "P67"),
        ((SILENT, *GRADE[1:], "privacy.noise_multiplier=1"), "P32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_what_claims_nothing_is_refused(
    at_hand: Path, settings: tuple[str, ...], code: str
) -> None:
    """Claims are not inherited: what a class does not say of itself is taken not to hold."""
    load(["experiment=smoke", *settings[:-1]])
    with pytest.raises(FedmriError, match=rf"silent.*\[{code}\]"):
        load(["experiment=smoke", *settings])
