"""Secure sums against a server that asks for the same values over other sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedmri.clients.egress.revealed import Revealed, Subject, sketch_of
from fedmri.clients.training.protection.private import Guard
from fedmri.clients.training.protection.secure import Membership, SecureSite, Values, simulated_key
from fedmri.errors import PrivacyError
from fedmri.secagg.masks import ssh_text
from fedmri.secagg.messages import Advert, Boxes, Roster, Sealed, Survivors
from fedmri.secagg.ring import Slot
from fedmri.secagg.secure_sum import Roll
from fedmri.wire import Masking, SecureStep, SumsOrder

SITES = ("A", "B", "C")
SECRET = b"secret of the site"
KEYS = {site: ssh_text(simulated_key(site).public_key()) for site in SITES}
SLOTS = {"x": Slot((8,))}
EVERYONE, TWO = frozenset(SITES), frozenset("AB")


def tensors(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, torch.Tensor]:
    """Return arrays as they travel."""
    return {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}


class Attack:
    """Site A beside two that play along, asked for sum after sum.

    Args:
        folder: Where the sites keep what they keep of a run.
        run: Name of the run, which nobody signs.
        book: A's file of what was revealed under the plan.
    """

    def __init__(self, folder: Path, run: str = "run", book: str = "") -> None:
        part = Membership(Roll(f"plan {run}", KEYS).to_json(), "", book)
        self.sites = {site: SecureSite(site, folder / run / site, part) for site in SITES}
        self.number = 0

    def _step(
        self, site: str, stage: str, arrays: Mapping[str, torch.Tensor]
    ) -> dict[str, NDArray[np.generic]]:
        order = SecureStep(self.number, self.number, stage, dict(arrays))
        return {n: v.numpy() for n, v in self.sites[site].answer(order, SLOTS).items()}

    def masking(self) -> Masking:
        """Begin a new sum."""
        self.number += 1
        adverts = {s: Advert.from_arrays(self._step(s, "advertise", {})) for s in SITES}
        roster = tensors(Roster(adverts).to_arrays(SITES))
        sealed = {s: Sealed.from_arrays(self._step(s, "share", roster), SITES) for s in SITES}
        return Masking(self.number, tensors(Boxes(sealed).to_arrays(SITES)))

    def reveal(self, values: Values, survivors: frozenset[str]) -> None:
        """Have A mask values in a new sum, and reveal it over some of the sites."""
        masking, label = self.masking(), f"round {self.number}"  # as the server likes
        self.sites["A"].mask(masking, label, SLOTS, lambda: values)
        self._step("A", "reveal", tensors(Survivors(survivors).to_arrays(SITES)))


def update(change: NDArray[np.float64], received: str) -> Values:
    """Return a site's update: weights, and how they changed."""
    sketch = sketch_of({"x": change}, SECRET)
    return Values(Subject("update", received, sketch), {"x": np.zeros(8)})


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a source of updates."""
    return np.random.default_rng(0)


def test_the_same_weights_under_another_label_reveal_nothing_more(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Two rounds of one model: A+B+C once, A+B never, A+B+C again."""
    change = rng.standard_normal(1000)
    attack = Attack(tmp_path)
    attack.reveal(update(change, "model"), EVERYONE)
    with pytest.raises(PrivacyError, match=r"second sum of the same values.*A, B.*\[P54\]"):
        attack.reveal(update(change, "model"), TWO)
    attack.reveal(update(change, "model"), EVERYONE)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-3, 0.05, 0.1])
def test_weights_that_are_almost_the_same_are_the_same(
    tmp_path: Path, rng: np.random.Generator, size: float
) -> None:
    """A model moved by a hair has another digest, and almost the same update."""
    change = rng.standard_normal(100_000)
    moved = change + size * rng.standard_normal(change.size)
    attack = Attack(tmp_path)
    attack.reveal(update(change, "model"), EVERYONE)
    with pytest.raises(PrivacyError, match=r"\[P54\]"):
        attack.reveal(update(moved, "model, moved"), TWO)


def test_another_update_is_another_sum(tmp_path: Path, rng: np.random.Generator) -> None:
    """An honest run whose site C drops out goes on: its next update is not the last one."""
    attack = Attack(tmp_path)
    for number, sites in enumerate((EVERYONE, TWO, EVERYONE, TWO)):
        attack.reveal(update(rng.standard_normal(1000), f"model {number}"), sites)


def test_another_run_of_the_plan_reveals_nothing_more(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """The book is the plan's, not the run's, whose name the server chooses."""
    change, book = rng.standard_normal(1000), str(tmp_path / "revealed.jsonl")
    Attack(tmp_path, "one", book).reveal(update(change, "model"), EVERYONE)
    with pytest.raises(PrivacyError, match=r"\[P54\]"):
        Attack(tmp_path, "two", book).reveal(update(change, "model"), TWO)


def asked_for(attack: Attack, order: SumsOrder, survivors: frozenset[str]) -> None:
    """Have A's part of the sums of an order masked and revealed."""
    shapes, own = {"x": (8,)}, {"x": np.zeros(8)}
    masking = attack.masking()
    site = attack.sites["A"]
    hidden = SumsOrder(order.step, order.shared, order.weights, order.round_index, {}, masking)
    site.sums(hidden, shapes, lambda: own, lambda values: sketch_of(values, SECRET))
    attack._step("A", "reveal", tensors(Survivors(survivors).to_arrays(SITES)))


def test_all_steps_over_the_same_scans_are_one_account(
    tmp_path: Path, wide: Callable[[], None]
) -> None:
    """The steps of a z-score are sums over the same voxels: C is in all of them, or in none."""
    wide()
    attack = Attack(tmp_path)
    asked_for(attack, SumsOrder(0, {}), EVERYONE)
    with pytest.raises(PrivacyError, match=r"sums before the rounds.*\[P54\]"):
        asked_for(attack, SumsOrder(1, {"mean": torch.zeros(1)}), TWO)


def test_embeddings_of_one_model_are_one_account(tmp_path: Path, wide: Callable[[], None]) -> None:
    """Asked for after another round, sums over embeddings of one model are the same sums."""
    wide()
    attack, model = Attack(tmp_path), {"w": torch.ones(3)}
    asked_for(attack, SumsOrder(0, {}, model, 1), EVERYONE)
    with pytest.raises(PrivacyError, match=r"embeddings.*\[P54\]"):
        asked_for(attack, SumsOrder(0, {}, model, 2), TWO)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what lets the sums of this file be those of a harmonization, in limbs."""
    from fedmri.secagg.wide import wide_slots

    return lambda: monkeypatch.setitem(globals(), "SLOTS", wide_slots({"x": (8,)}))


def test_a_sketch_keeps_distances_and_needs_the_secret(rng: np.random.Generator) -> None:
    """Within a fifth for all of fifty pairs; under another secret it is another sketch."""
    ratios = []
    for _ in range(50):
        one, two = rng.standard_normal((2, 5_000))
        short = [np.array(sketch_of({"x": values}, SECRET)) for values in (one, two)]
        ratios.append(float(np.linalg.norm(short[0] - short[1]) / np.linalg.norm(one - two)))
    assert 0.8 < min(ratios) < max(ratios) < 1.2
    values = {"x": rng.standard_normal(500)}
    assert sketch_of(values, b"a") != sketch_of(values, b"b")
    guard = Guard(SECRET, Path("none"))
    assert guard.sketch(values) == sketch_of(values, SECRET)


def test_a_torn_line_of_the_book_is_no_sum(tmp_path: Path) -> None:
    """It was written before its sum was revealed, so none was."""
    book = Revealed(tmp_path / "revealed.jsonl")
    book.keep(Subject("update", "model"), EVERYONE)
    whole = book.path.read_text()
    book.path.write_text(whole[:-9])
    book.refuse_other(Subject("update", "model"), TWO)
    book.keep(Subject("update", "model"), TWO)
    with pytest.raises(PrivacyError, match=r"\[P54\]"):
        book.refuse_other(Subject("update", "model"), EVERYONE)
