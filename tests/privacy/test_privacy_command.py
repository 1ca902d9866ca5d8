"""What the command says before anybody trains."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from fedmri.commands.privacy.training import privacy_app
from fedmri.config import load
from fedmri.errors import ConfigError

ASKED = ["--patients", "400", "--rounds", "5", "--epsilon", "8", "--batch", "20"]


def run(*arguments: str) -> str:
    """Return what the command prints."""
    done = CliRunner().invoke(privacy_app, ["plan", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_the_noise_costs_what_was_asked_for() -> None:
    """One pass is 20 steps of a rate of 0.05; five rounds of them spend 8, or hardly less."""
    found = json.loads(run(*ASKED, "--json"))
    assert (found["sample_rate"], found["steps_a_round"], found["delta"]) == (0.05, 20, 0.00025)
    assert 7.9 < found["epsilon"] <= 8
    assert [point["round"] for point in found["by_round"]] == [1, 2, 3, 4, 5]


def test_it_says_whose_epsilon_it_is_and_what_it_does_not_cover() -> None:
    """The unit stands with the number, and so do the settings to copy."""
    text = " ".join(run(*ASKED).split())
    assert "one patient at one site" in text
    assert "privacy.noise_multiplier=" in text
    assert "Outside of it: numbers of patients" in text


@pytest.mark.parametrize(
    "odd",
    [
        *(["--batch", "500"], ["--patients", "0"], ["--epsilon", "0"], ["--epsilon", "inf"]),
        ["--unit", "site", "--epsilon", "inf"],
    ],
    ids=" ".join,
)
def test_numbers_that_make_no_sense_are_refused(odd: list[str]) -> None:
    """By the option's name."""
    with pytest.raises(ConfigError, match=rf"setting {odd[-2]}: found .*\[C01\]"):
        run(*ASKED, *odd)


SITE = ["--unit", "site", "--rounds", "20", "--epsilon", "8", "--dimensions", "514"]


def test_a_hospitals_noise_is_set_beside_the_signal() -> None:
    """The multiplier costs 8 in twenty rounds; on a mean over n it is z root d over root n."""
    found = json.loads(run(*SITE, "--sites", "5", "--json"))
    noise, rows = found["noise_multiplier"], found["noise_over_clip_norm"]
    assert (found["unit"], found["delta"]) == ("one hospital", 0.001)
    assert 7.9 < found["epsilon"] <= 8
    assert [row["n_sites"] for row in rows] == [5, 20, 100, 1000]
    for row in rows:
        size = noise * 514**0.5
        assert row["each_adds_all"] == pytest.approx(size / row["n_sites"] ** 0.5, rel=1e-3)
        assert row["sum_alone_seen"] == pytest.approx(size / row["n_sites"], rel=1e-3)


def test_few_hospitals_are_told_that_they_learn_little() -> None:
    """Five hospitals, 514 numbers: noise of some twenty times the signal, in words."""
    text = " ".join(run(*SITE, "--sites", "5").split())
    assert "One hospital spends epsilon" in text
    assert "times the largest signal there can be: little is learned" in text
    assert "privacy.site.noise_multiplier=" in text


HEAD = ["--release", "head", "--patients", "40", "--sites", "3", "--epsilon", "1"]


def test_a_head_is_planned_before_anything_is_spent() -> None:
    """Noise takes more from many numbers than from few; a shared one takes less from all."""
    own, shared = (json.loads(run(*HEAD, *more, "--json")) for more in ([], ["--shared"]))
    assert own["epsilon"] <= 1 < own["epsilon"] * 1.01
    assert own["noise_multiplier"] == shared["noise_multiplier"]
    losses = {row["n_numbers"]: row["loss"] for row in own["by_numbers"]}
    assert losses[64] > losses[8] > 0.02
    assert all(
        one["private_auc"] > other["private_auc"]
        for one, other in zip(shared["by_numbers"], own["by_numbers"], strict=True)
    )
    best = max(own["by_numbers"], key=lambda row: row["private_auc"])
    assert own["best"] == best["n_numbers"]


def test_the_settings_of_a_head_are_those_of_a_plan() -> None:
    """Shares and threshold go together as a plan wants them."""
    text = " ".join(run(*HEAD, "--shared").split())
    assert "stages.private_head.n_shares=2 secagg.is_on=true secagg.threshold=3" in text
    found = re.findall(r"(?:harmonize|rounds|stages|secagg)[\w.]*=[\w.]+", text)
    plan = load(["experiment=tumour_kind", "data.prepare.size=[32,32]", *found]).plan
    assert plan.is_patient_hidden
