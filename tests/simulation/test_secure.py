"""Rounds whose server learns the sites' mean and no site's update."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmri.assembly import assemble
from fedmri.clients.egress.revealed import Subject
from fedmri.clients.training.protection.secure import Membership, SecureSite, Values, simulated_key
from fedmri.config import load, load_resolved
from fedmri.errors import PrivacyError, RoundError
from fedmri.models.weights import norm
from fedmri.secagg.masks import ssh_text
from fedmri.secagg.messages import Advert, Boxes, Roster, Sealed, Survivors
from fedmri.secagg.ring import Slot
from fedmri.secagg.secure_sum import Roll
from fedmri.server.rounds.checkpoint import load_weights_file
from fedmri.server.rounds.records import Record
from fedmri.wire import Masking, SecureStep
from tests.conftest import RunTiny
from tests.simulation.test_study import SITES, StopHere, model_of, records, stop_at

SECURE = ("secagg.is_on=true", "simulation.arms=[federated]")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the final weights of the federated arm."""
    return load_weights_file(folder / "arms/federated/seed-0/model.safetensors")[0]


@pytest.mark.parametrize(
    "settings",
    [
        ("harmonize=nyul",),
        ("harmonize=robust", "data.prepare.scaling=none"),
        ("model.norm=batch",),
        ("harmonize=[nyul,combat]", "stages.combat.n_min=2"),
    ],
    ids=lambda settings: settings[0],
)
def test_the_mean_is_that_of_updates_in_clear(run_tiny: RunTiny, settings: tuple[str, ...]) -> None:
    """One round of masked updates, after masked sums: the weights, within fixed point."""
    one = ("rounds.n_rounds=1", "simulation.arms=[federated]", *settings)
    hidden, clear = run_tiny("hidden", *one, *SECURE), run_tiny("clear", *one)
    found, wanted = weights_of(hidden), weights_of(clear)
    for name, value in wanted.items():
        if value.is_floating_point():
            assert torch.allclose(found[name], value, rtol=1e-5, atol=1e-6), name


def test_what_is_recorded_says_nothing_of_a_site_alone(run_tiny: RunTiny) -> None:
    """Neither counts nor steps, which tell them, nor a training loss are in the records."""
    folder = run_tiny("a", *SECURE, "rounds.n_rounds=1")
    fields = {name for record in records(folder, kind="round") for name in record}
    assert fields == {
        *("kind", "arm", "seed", "round", "site", "status", "seconds"),
        *("bytes_up", "bytes_down", "train_seconds"),
    }


def test_workers_and_a_stop_change_no_bit(run_tiny: RunTiny) -> None:
    """Masks are random and the sum is not: two processes, or one that stopped, end alike."""
    settings = (*SECURE, "harmonize=nyul", "strategy=fedprox", "rounds.n_rounds=3")
    whole = run_tiny("whole", *settings)
    assert model_of(run_tiny("workers", *settings, "simulation.workers=2")) == model_of(whole)
    with pytest.raises(StopHere):
        run_tiny("stopped", *settings, observe=stop_at("round", 4))
    assert model_of(run_tiny("stopped", *settings)) == model_of(whole)


def ratios(folder: Path) -> dict[str, float]:
    """Return by what each site's model alone outgrew the initial one, after a round."""
    made = assemble(load_resolved(folder / "config.yaml").plan)
    model, entries = made.entries, made.layout
    grown = {}
    for site in SITES:
        alone, _ = load_weights_file(folder / f"arms/local-{site}/seed-0/model.safetensors")
        grown[site] = norm(alone, entries.parameters) / norm(model, entries.parameters)
    return grown


def test_a_site_that_drops_out_after_sharing_does_not_spoil_the_sum(run_tiny: RunTiny) -> None:
    """The site whose update is beyond the bound keeps it back: the mean is that of the others."""
    one = ("rounds.n_rounds=1", "train.lr=0.1")
    *_, second, largest = sorted(
        ratios(run_tiny("alone", *one, "simulation.arms=[local]")).values()
    )
    bound = f"rounds.max_norm_ratio={(second + largest) / 2}"
    hidden = run_tiny("hidden", *one, *SECURE, bound)
    clear = run_tiny("clear", *one, bound, "simulation.arms=[federated]")
    rejected = [r["rejected"] for r in records(hidden, kind="round_total")]
    assert list(rejected[0].values()) == ["R41"]
    assert rejected == [r["rejected"] for r in records(clear, kind="round_total")]
    for name, value in weights_of(clear).items():
        assert torch.allclose(weights_of(hidden)[name], value, rtol=1e-5, atol=1e-6), name


@pytest.mark.slow
def test_a_site_that_is_broken_is_left_out_of_the_sum(run_tiny: RunTiny) -> None:
    """It does not even give its keys; two of three are enough."""
    settings = (*SECURE, "rounds.n_rounds=1")
    folder = run_tiny("a", *settings)
    (folder / "arms/federated/seed-0/model.safetensors").unlink()
    (folder / "arms/federated/seed-0/checkpoints/round-000001.safetensors").unlink()
    for kept in (*folder.rglob("secure-sum.safetensors"), *folder.rglob("revealed.jsonl")):
        kept.unlink()  # or the others would not reveal a second sum of the same round
    (folder / "prepared/site02.json").write_text("{")
    run_tiny("a", *settings, "simulation.workers=2")  # new processes, which open the file again
    metrics = folder / "arms/federated/seed-0/metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [r["rejected"] for r in lines if r["kind"] == "round_total"] == [{"site02": "D43"}]


def test_an_update_that_diverged_does_not_reach_the_sum(run_tiny: RunTiny) -> None:
    """The server cannot look at it any more, so each site holds itself to the bound."""
    statuses: list[str] = []

    def note(record: Record) -> None:
        statuses.extend([record["status"]] if record["kind"] == "round" else [])

    with pytest.raises(RoundError, match=r"\[P51\]"):
        run_tiny("a", *SECURE, "train.lr=1e38", "train.optimizer=sgd", observe=note)
    assert set(statuses) <= {"R41", "R04"}
    assert len(statuses) == len(SITES)


@pytest.mark.parametrize(
    "setting",
    [
        "strategy=median",
        "strategy=cyclic",
        "transport.dtype=bf16",
        "harmonize=fedharmony",
        "rounds.is_late_join_allowed=true",
    ],
)
def test_what_must_see_single_updates_is_refused(setting: str) -> None:
    """A plan cannot both hide updates and look at them."""
    with pytest.raises(PrivacyError, match=r"\[P57\]"):
        load(["experiment=smoke", "secagg.is_on=true", setting])


SLOTS = {"x": Slot((2,))}
ROLL = Roll("test", {site: ssh_text(simulated_key(site).public_key()) for site in SITES})


class Sum:
    """A sum of three sites, each with its own folder, as far as a test wants it."""

    def __init__(self, folder: Path, number: int = 1, claimed_round: int = 4) -> None:
        self.number, self.claimed_round = number, claimed_round
        part = Membership(ROLL.to_json())
        self.sites = {site: SecureSite(site, folder / site, part) for site in SITES}
        self.n_computed = 0

    def step(self, site: str, stage: str, **arrays: torch.Tensor) -> dict[str, np.ndarray]:
        """Return a site's answer to a step."""
        order = SecureStep(self.claimed_round, self.number, stage, arrays)
        return {n: v.numpy() for n, v in self.sites[site].answer(order, SLOTS).items()}

    def boxes(self) -> Masking:
        """Return what all sites are sent with the order for their values."""
        adverts = {site: Advert.from_arrays(self.step(site, "advertise")) for site in SITES}
        roster = tensors(Roster(adverts).to_arrays(SITES))
        sealed = {s: Sealed.from_arrays(self.step(s, "share", **roster), SITES) for s in SITES}
        return Masking(self.number, tensors(Boxes(sealed).to_arrays(SITES)))

    def mask(self, site: str, masking: Masking | None) -> torch.Tensor:
        """Return a site's masked values."""

        def compute() -> Values:
            self.n_computed += 1
            return Values(Subject("update", "a model"), {"x": np.array([1.0, 2.0])}, {"loss": 0.5})

        weights, metrics = self.sites[site].mask(masking, "round 4", SLOTS, compute)
        assert metrics == {"loss": 0.5}
        return weights["masked"]

    def reveal(self, site: str, *survivors: str) -> dict[str, np.ndarray]:
        """Return a site's shares."""
        return self.step(
            site, "reveal", **tensors(Survivors(frozenset(survivors)).to_arrays(SITES))
        )


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return arrays as they travel."""
    return {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}


def test_a_lost_answer_is_given_again_to_the_bit(tmp_path: Path) -> None:
    """A worker that was killed after each step answers as before, and trains once."""
    first = Sum(tmp_path)
    masking = first.boxes()
    masked = first.mask("site01", masking)
    again = Sum(tmp_path)  # new processes over the same folders
    assert torch.equal(again.mask("site01", masking).view(torch.int64), masked.view(torch.int64))
    assert (first.n_computed, again.n_computed) == (1, 0)


def test_no_value_leaves_in_clear(tmp_path: Path) -> None:
    """A server that leaves out the masks of a plan that has them gets nothing."""
    with pytest.raises(PrivacyError, match=r"in clear.*\[P59\]"):
        Sum(tmp_path).mask("site01", None)


def test_masks_are_not_used_twice(tmp_path: Path) -> None:
    """Other values under the same masks would give the server their difference."""
    one = Sum(tmp_path)
    masking = one.boxes()
    one.mask("site01", masking)
    others = Values(Subject("update", "another"), {"x": np.zeros(2)})
    with pytest.raises(PrivacyError, match=r"\[P54\]"):
        one.sites["site01"].mask(masking, "round 5", SLOTS, lambda: others)


@pytest.mark.parametrize("claimed_round", [4, 5])
def test_a_sum_of_the_same_values_over_other_sites_is_not_revealed(
    tmp_path: Path, claimed_round: int
) -> None:
    """Two sums of a round would give away site03, also where the server calls one another's."""
    one = Sum(tmp_path, 1)
    masking = one.boxes()
    for site in SITES:
        one.mask(site, masking)
    one.reveal("site01", *SITES)
    two = Sum(tmp_path, 2, claimed_round)
    masking = two.boxes()
    for site in SITES:
        two.mask(site, masking)
    two.reveal("site02", *SITES)
    with pytest.raises(PrivacyError, match=r"second sum of the same values.*\[P54\]"):
        two.reveal("site01", "site01", "site02")
    two.reveal("site01", *SITES)


def test_an_old_sum_is_not_played_again(tmp_path: Path) -> None:
    """A server that falls back behind a number gets no new keys for it."""
    Sum(tmp_path, 2).boxes()
    with pytest.raises(PrivacyError, match=r"sum 1.*\[P54\]"):
        Sum(tmp_path, 1).boxes()
