"""Learned invariance in the rounds: coral and fedharmony from configuration to the same bits."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from fedmri.config import load
from fedmri.data.batches.site_data import Split
from fedmri.errors import ConfigError, HarmonizeError, RoundError
from fedmri.harmonize.sums import version
from fedmri.stages.embeddings.combat import Combat
from fedmri.stages.registry import STAGES
from fedmri.stages.stage import AtSite
from fedmri.wire import as_arrays
from tests.conftest import RunTiny
from tests.simulation.test_study import PLAIN_SGD, SITES, StopHere, model_of, records, stop_at

FEDERATED = "simulation.arms=[federated]"


def test_each_round_has_moments_of_its_own_model(run_tiny: RunTiny) -> None:
    """A consensus a round, of another model each; the weights are not those of a plain run."""
    plain, coral = run_tiny("plain", FEDERATED), run_tiny("coral", FEDERATED, "harmonize=coral")
    assert model_of(plain) != model_of(coral)
    fitted = records(coral, kind="embedded")
    assert [record["round"] for record in fitted] == [0, 1]
    assert len({record["version"] for record in fitted}) == 2
    assert not records(plain, kind="embedded")


def test_without_strength_nothing_is_changed(run_tiny: RunTiny) -> None:
    """Taking the moments leaves weights, draws and the order of examples as they were."""
    plain, *others = (
        run_tiny(name, FEDERATED, "model.norm=batch", "model.dropout=0.2", *more)
        for name, more in (
            ("plain", ()),
            ("coral", ("harmonize=coral", "stages.coral.strength=0")),
            ("fedharmony", ("harmonize=fedharmony", "stages.fedharmony.strength=0")),
        )
    )
    assert {model_of(plain)} == {model_of(other) for other in others}


@pytest.mark.parametrize(
    "settings",
    [
        ("harmonize=[nyul,coral]", "strategy=scaffold", "simulation.workers=2", *PLAIN_SGD),
        ("harmonize=fedharmony", "strategy=fedbn", "model.norm=batch"),
        ("harmonize=coral", "strategy=ditto", "train.is_optimizer_kept=true"),
        ("harmonize=combat", "stages.combat.n_min=2", "rounds.evaluate_every=1"),
    ],
    ids=lambda settings: settings[0],
)
def test_workers_and_a_stop_do_not_change_the_bits(
    run_tiny: RunTiny, settings: tuple[str, ...]
) -> None:
    """Two processes, or one that was stopped within its second round: the same weights."""
    settings = (FEDERATED, "rounds.n_rounds=2", "rounds.evaluate_every=0", *settings)
    whole = run_tiny("whole", *settings)
    with pytest.raises(StopHere):
        run_tiny("stopped", *settings, "simulation.workers=1", observe=stop_at("round", 5))
    resumed = run_tiny("stopped", *settings, "simulation.workers=1")
    assert model_of(resumed) == model_of(whole)
    versions = [[r["version"] for r in records(f, kind="embedded")] for f in (whole, resumed)]
    assert versions[0] == versions[1]


def test_a_site_alone_agrees_with_itself(run_tiny: RunTiny) -> None:
    """The local and pooled arms train too: their one member is its own consensus."""
    folder = run_tiny("a", "harmonize=fedharmony", "rounds.n_rounds=1")
    arms = {r["arm"] for r in records(folder, kind="test", status="ok")}
    assert arms == {"federated", "pooled", *(f"local:{site}" for site in SITES)}


def test_a_site_beyond_the_fit_is_scored_with_the_frozen_parameters(
    run_tiny: RunTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ComBat as the others fitted it scores a left-out hospital; the same weights score otherwise.

    Weights that were trained with ComBat differ from others, so their scores differ in any case.
    Both runs here end with equal weights: only what is done while scoring can tell them apart.
    """
    short = ("simulation.protocol=loso", FEDERATED, "rounds.n_rounds=1", "train.local_steps=1")
    settings = (*short, "harmonize=combat", "stages.combat.n_min=2")
    arm, whole, used = f"loso:{SITES[0]}", Combat.scoring, list[tuple[str, str, str]]()

    def noted(self: Combat, at: AtSite, split: Split) -> AbstractContextManager[bool]:
        used.append((at.site, split, version(as_arrays(at.fitted))))
        return whole(self, at, split)

    monkeypatch.setattr(Combat, "scoring", noted)
    scored = run_tiny("scored", *settings)
    monkeypatch.setattr(Combat, "scoring", lambda *_: nullcontext(enter_result=False))
    left = run_tiny("left", *settings)

    by_fit: dict[str, set[tuple[str, str]]] = {}
    for site, split, fit in used:
        by_fit.setdefault(fit, set()).add((site, split))
    of_others = {(SITES[0], "test"), (SITES[1], "val"), (SITES[2], "val")}
    assert any(of_others <= asked - {(SITES[0], "val")} == asked for asked in by_fit.values())
    name = arm.replace(":", "-")
    assert model_of(scored, name) == model_of(left, name)
    losses = [
        records(folder, kind="test", arm=arm, site=SITES[0], status="ok")[0]["metrics"]["loss"]
        for folder in (scored, left)
    ]
    assert losses[0] != losses[1]


def test_too_few_sites_of_enough_patients_end_the_run(run_tiny: RunTiny) -> None:
    """ComBat counts on ten examples a site: a code names the sites that have fewer."""
    with pytest.raises(RoundError, match=r"\[R08\]") as caught:
        run_tiny("a", "harmonize=combat", FEDERATED)
    (note,) = caught.value.__notes__
    assert re.search(r"quorum of sums.*site01 \(H02: \w.*\).*\[R01\]", note)


def test_a_list_names_several_and_refuses_two_of_one_place(tmp_path: Path) -> None:
    """One configuration line; the second of two for images would silently win."""
    both = load(["harmonize=[nyul,coral]", "experiment=smoke"]).plan.stages
    assert list(map(STAGES.name_of, both)) == ["nyul", "coral"]
    for text in ("[nyul,zscore]", "[coral,combat]", "[none,nyul]"):
        with pytest.raises(ConfigError, match=r"the list (stages|harmonize).*\[C03\]"):
            load([f"harmonize={text}", "experiment=smoke"])
    with pytest.raises(ConfigError, match=r"harmonize=nyull.*nearest is harmonize=nyul"):
        load(["harmonize=[coral,nyull]"])
    file = tmp_path / "mine.yaml"
    file.write_text("harmonize: [nyul, coral]\nexperiment: smoke\n")
    assert load([], file).plan.stages == both


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (("experiment=lesion_mask",), "H22"),
        (("experiment=smoke", "privacy.noise_multiplier=1.0"), "H23"),
        (("experiment=smoke", "data.augment.mixup=0.5"), "H24"),
    ],
)
def test_where_it_cannot_be_it_is_refused(settings: tuple[str, ...], code: str) -> None:
    """Before a scan is read: by code, with what to set instead."""
    with pytest.raises(HarmonizeError, match=rf"stage coral.*\[{code}\]"):
        load(["harmonize=coral", *settings])
