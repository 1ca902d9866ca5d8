"""What a split that leaks adds to a score: the protocols of a review beside honest ones.

    python benchmarks/training/leaky_splits.py CHENG SARTAJ

CHENG is a folder ``class/*.jpg`` with a patient table, SARTAJ one without, whose names begin with
``te_`` where its makers test. The same network has the same budget under every split, with seeds 0
to 2. Cheng's slices are split at random, as is usual, and by patient. SARTAJ is split as its makers
did, with the copies of tested images and without them. Scores are of slices, as the review's are.
Patients are drawn anew for the intervals, or groups of copies where no patient is known.

No setting of fedmri makes such a split: this file moves slices by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fedmri.config import load
from fedmri.data.batches.examples import PreparedSite
from fedmri.data.batches.site_data import Split
from fedmri.data.batches.split import split_subjects, unit_hash
from fedmri.data.checks.copies import copied
from fedmri.data.checks.probe import probe_all
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import Prepared, PreparedScan
from fedmri.data.read import read
from fedmri.data.scans import Scan
from fedmri.data.settings import AugmentConfig, SplitConfig
from fedmri.evaluate.estimate import Certainty
from fedmri.evaluate.resampling import bootstrap, drawn_weights
from fedmri.models.build import build_network
from fedmri.plan import Plan
from fedmri.training.local import train_round

SEEDS, N_DRAWS, SIDE, SHARE = (0, 1, 2), 2000, 64, 0.2
KINDS = ("glioma", "meningioma", "pituitary")
Divide = Callable[[PreparedScan], Split | None]
Arrays = tuple[np.ndarray, np.ndarray]
"""Of tested slices of all seeds: their patient or group, and whether the answer was right."""


@dataclass(frozen=True)
class Pictures:
    """Prepared slices of a data set, all on one side until they are divided."""

    plan: Plan
    scans: tuple[Scan, ...]
    prepared: Prepared
    n_epochs: int

    @classmethod
    def of(cls, folder: str, classes: Sequence[str], n_epochs: int) -> Pictures:
        """Return the slices of a folder."""
        plan = load(
            [
                "experiment=tumour_kind",
                f"data.source.path={folder}",
                f"target.classes=[{','.join(classes)}]",
                f"data.prepare.size=[{SIDE},{SIDE}]",
                "model=cnn3d",
                "model.width=16",
                "target.loss=auto",
                "train.lr=2e-3",
                "train.local_steps=0",
                "train.is_optimizer_kept=false",
                "train.n_threads=1",
                "train.device=cpu",
            ]
        ).plan
        scans = read(plan.data.source).scans
        sides: dict[str, Split] = {scan.subject: "train" for scan in scans}
        cache = Path("~/.cache/fedmri").expanduser()
        prepared = prepare_scans(scans, plan.target, plan.data, sides, cache)
        return cls(plan, scans, prepared, n_epochs)

    def divided(self, divide: Divide) -> PreparedSite:
        """Return the slices on their sides; what is on none is left out."""
        sides = [(scan, divide(scan)) for scan in self.prepared.scans]
        scans = tuple(replace(scan, split=side) for scan, side in sides if side is not None)
        prepared = replace(self.prepared, scans=scans)
        return PreparedSite(prepared, self.plan.target, AugmentConfig())


def main() -> None:
    """Print a line for each split."""
    cheng, sartaj = sys.argv[1:]
    print("split\ttrained\ttested\taccuracy of slices\tlargest class")
    slices = Pictures.of(cheng, KINDS, 24)
    leaking = _row("cheng, slices at random", slices, _by_slice)
    honest = _row("cheng, patients at random", slices, lambda seed: _by_patient(slices, seed))
    _difference("cheng, what the leak adds", leaking, honest)
    pictures = Pictures.of(sartaj, (*KINDS, "notumor"), 12)
    groups = _copies(pictures)
    official = _row("sartaj, as published", pictures, lambda _: _official, groups)
    known = {group for scan, group in groups.items() if not _is_tested(scan)}
    has_copy = np.isin(official[0], sorted(known))
    _told("- tested images with a copy in training", official, has_copy)
    _told("- the other tested images", official, ~has_copy)
    tested = {group for scan, group in groups.items() if _is_tested(scan)}
    clean = _without(groups, tested)
    cleaned = _row("sartaj, copies not trained on", pictures, lambda _: clean, groups)
    _difference("sartaj, what the copies add", official, cleaned)


def _by_slice(seed: int) -> Divide:
    return lambda scan: "test" if unit_hash(seed, scan.scan) < SHARE else "train"


def _by_patient(slices: Pictures, seed: int) -> Divide:
    shares = SplitConfig(val=0.0, test=SHARE)
    sides = split_subjects(slices.scans, slices.plan.target, shares, seed)
    return lambda scan: sides[scan.subject]


def _is_tested(scan: str) -> bool:
    return scan.rpartition("-")[2].startswith("te_")


def _official(scan: PreparedScan) -> Split:
    return "test" if _is_tested(scan.subject) else "train"


def _without(groups: dict[str, int], tested: set[int]) -> Divide:
    """Return the makers' split, where a copy of a tested image is on no side."""

    def divide(scan: PreparedScan) -> Split | None:
        is_out = groups[scan.subject] in tested and not _is_tested(scan.subject)
        return None if is_out else _official(scan)

    return divide


def _copies(pictures: Pictures) -> dict[str, int]:
    """Return the group of copies of each image: its number, or one of its own."""
    plan = pictures.plan
    probes = probe_all(pictures.scans, plan.target, plan.data.source.modalities)
    found = {probe.scan.subject: number for number, probe in enumerate(probes)}
    for group in copied(probes, plan.data.check.near_distance):
        found |= {probes[place].scan.subject: group[0] for place in group}
    return found


def _row(
    name: str,
    pictures: Pictures,
    split: Callable[[int], Divide],
    groups: dict[str, int] | None = None,
) -> Arrays:
    """Train and test with each seed, print the line, and return what was right."""
    who: list[str] = []
    right: list[bool] = []
    site = pictures.divided(split(SEEDS[0]))
    for seed in SEEDS:
        site = pictures.divided(split(seed))
        for subject, is_right in _tested(
            replace(pictures.plan, seed=seed), site, pictures.n_epochs
        ):
            who.append(subject)
            right.append(is_right)
    numbers = groups or {name: number for number, name in enumerate(sorted({*who}))}
    found = np.array([numbers[one] for one in who]), np.array(right, dtype=np.float64)
    n_trained, n_tested = (len(site.examples(side)) for side in ("train", "test"))
    truths = [example.target for example in site.examples("test")]
    most = max(truths.count(value) for value in {*truths}) / len(truths)
    shown = _shown(found, np.ones(len(who), dtype=bool))
    print(f"{name}\t{n_trained}\t{n_tested}\t{shown}\t{most:.3f}", flush=True)
    return found


def _tested(plan: Plan, site: PreparedSite, n_epochs: int) -> Iterator[tuple[str, bool]]:
    """Train a network, and yield the patient of each tested slice and whether it was right."""
    network = build_network(plan.model, **plan.network)
    for epoch in range(1, n_epochs + 1):
        train_round(
            *(network, site, plan.target, plan.train),
            round_index=epoch,
            n_rounds=n_epochs,
            seed=plan.seed,
        )
    network.eval()
    with torch.no_grad():
        for batch in site.eval_batches("test", batch_size=64):
            called = network(*batch.inputs).argmax(1)
            yield from zip(batch.subjects, (called == batch.target).tolist(), strict=True)


def _told(name: str, found: Arrays, kept: np.ndarray) -> None:
    print(f"{name}\t\t{int(kept.sum()) // len(SEEDS)}\t{_shown(found, kept)}\t", flush=True)


def _shown(found: Arrays, kept: np.ndarray) -> str:
    who, right = found[0][kept], found[1][kept]
    return _estimated(who, lambda weights: weights @ right / weights.sum(1), "logit")


def _difference(name: str, first: Arrays, second: Arrays) -> None:
    """Print how much higher the first accuracy is; patients are drawn for both at once."""
    who = np.concatenate([first[0], second[0]])
    is_first = np.arange(len(who)) < len(first[0])
    right = np.concatenate([first[1], second[1]])

    def gain(weights: np.ndarray) -> np.ndarray:
        parts = (weights[:, side] @ right[side] for side in (is_first, ~is_first))
        sums = (weights[:, side].sum(1) for side in (is_first, ~is_first))
        one, other = (part / total for part, total in zip(parts, sums, strict=True))
        return np.asarray(one - other)

    print(f"{name}\t\t\t{_estimated(who, gain, 'identity')}\t", flush=True)


def _estimated(who: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], scale: str) -> str:
    n = len({*who.tolist()})
    draws = drawn_weights(who, np.zeros(len(who)), N_DRAWS, np.random.default_rng(0))
    how = Certainty(scale, n - 1.0)  # type: ignore[arg-type]  # one of the scales
    one = bootstrap(statistic, draws, n, how)
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


if __name__ == "__main__":
    main()
