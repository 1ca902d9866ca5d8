"""What patient-level privacy costs a last layer that is fitted once, and an attack on it.

    python benchmarks/training/private_head.py SETTING [SETTING ...]

Settings are those of ``fedmri simulate``, with the data as ``data.source.path=FOLDER``; the stage
``private_head`` is added, and ``model=fixed_features`` where no setting names a model. Seeds 0 to 2
draw split, hospitals and projection, and every hospital's sums are made as a run makes them. The
noise is drawn 20 times for each epsilon: by each hospital alone, or shared under secure sums with
``n_shares`` one below the number of hospitals. A line gives the mean over seeds and draws, and the
central 95 % over seeds, draws and test patients drawn with replacement. The attack knows all
patients but one, the worst.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedmri.config import load
from fedmri.data.batches.examples import open_site
from fedmri.data.batches.site_data import Example, SiteData, Split
from fedmri.leakage.epsilon import epsilon_at_least
from fedmri.models.build import build_network
from fedmri.models.weights import layout, load_weights, weights
from fedmri.plan import Plan
from fedmri.privacy.accounting import noise_for
from fedmri.privacy.head_sums import N_SITES, HeadSums, Patients
from fedmri.round import Truth
from fedmri.simulation.sites import SiteSource, prepare_sites
from fedmri.stages.account import NothingLeaves
from fedmri.stages.embeddings.private_head import PrivateHead
from fedmri.stages.stage import AtSite, Made
from fedmri.tasks.task import Case, Reading, Task

EPSILONS = (math.inf, 8.0, 3.0, 1.0)
SEEDS, N_DRAWS, N_AGAIN = (0, 1, 2), 20, 100
N_ATTACKS = 4000
Arrays = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Hospitals:
    """What one seed makes: training patients, and test examples as a head sees them."""

    made: Made
    network: torch.nn.Module
    stage: PrivateHead
    patients: tuple[Patients, ...]
    truths: tuple[Truth, ...]
    tested: tuple[tuple[Example, ...], torch.Tensor]

    @property
    def delta(self) -> float:
        """One tenth over the smallest hospital's patients, as plans have it."""
        return 0.1 / min(len(one.numbers) for one in self.patients)


def main() -> None:
    """Print a line for each epsilon and way of noise, and then for the attack."""
    found = [hospitals(sys.argv[1:], seed) for seed in SEEDS]
    for seed, one in zip(SEEDS, found, strict=True):
        counts = ", ".join(str(len(p.numbers)) for p in one.patients)
        print(f"seed {seed}: {counts} patients train, {len(_cases(one, None))} are tested")
    print(f"looks at no image: {_told(*_guessed(found))}")
    for epsilon in EPSILONS:
        for is_shared in (False, True) if math.isfinite(epsilon) else (False,):
            print(_line(found, epsilon, is_shared=is_shared), flush=True)
    for epsilon in EPSILONS[1:]:
        print(_attacked(found[0], epsilon), flush=True)


def hospitals(settings: list[str], seed: int) -> Hospitals:
    """Prepare the hospitals of a seed, and look at every image once."""
    base = ("harmonize=private_head", "rounds.n_rounds=0", "rounds.evaluate_every=0")
    has_model = any(setting.startswith("model=") for setting in settings)
    model = () if has_model else ("model=fixed_features",)
    experiment = load([*settings, *model, *base, f"seed={seed}"])
    plan, cache = experiment.plan, Path(experiment.simulation.cache or "~/.cache/fedmri")
    source = SiteSource(plan, experiment.partition, "", False, cache.expanduser())  # noqa: FBT003
    with tempfile.TemporaryDirectory() as folder:
        paths = prepare_sites(source, Path(folder)).sites
        data = {name: open_site([path], plan.target, plan.data) for name, path in paths.items()}
        return _looked_at(plan, data)


def _looked_at(plan: Plan, data: Mapping[str, SiteData]) -> Hospitals:
    network = build_network(plan.model, **plan.network).eval()
    made, (stage,) = Made(plan, dict(weights(network)), layout(network)), plan.stages
    assert isinstance(stage, PrivateHead)
    seen = [
        AtSite(name, plan, one, NothingLeaves(), 0, network, made.layout)
        for name, one in data.items()
    ]
    patients = tuple(stage.patients(at) for at in seen)
    examples = tuple(e for one in data.values() for e in one.examples("test"))
    with torch.no_grad():
        embed = _halves(network)[0]
        features = torch.cat([embed(image) for image in _images(data, "test")])
    by_patient = {
        (e.site, e.subject): e.target for one in data.values() for e in one.examples("train")
    }
    truths = tuple(by_patient[patient] for patient in sorted(by_patient))
    return Hospitals(made, network, stage, patients, truths, (examples, features))


def _images(data: Mapping[str, SiteData], split: Split) -> Iterator[torch.Tensor]:
    for one in data.values():
        yield from (batch.image for batch in one.eval_batches(split, batch_size=64))


def _line(found: list[Hospitals], epsilon: float, *, is_shared: bool) -> str:
    source = np.random.default_rng(0)
    n_draws = N_DRAWS if math.isfinite(epsilon) else 1
    drawn = [
        (one.made.plan.target, _cases(one, _fitted(one, epsilon, source, is_shared=is_shared)))
        for one in found
        for _ in range(n_draws)
    ]
    shared = ", shared noise" if is_shared else ""
    return f"epsilon {epsilon:g}{shared}: {_told(drawn, N_AGAIN // n_draws)}"


def _guessed(found: list[Hospitals]) -> tuple[list[tuple[Task, list[Case]]], int]:
    """Return what class shares, or the mean, of all training patients would predict."""
    drawn = []
    for one in found:
        task = one.made.plan.target
        guess = task.guess(one.truths)
        assert guess is not None
        cases = [
            task.case(c.site, c.subject, [Reading(1, c.truth, (tuple(guess),))])
            for c in _cases(one, None)
        ]
        drawn.append((task, cases))
    return drawn, N_AGAIN


def _told(drawn: list[tuple[Task, list[Case]]], n_again: int) -> str:
    """Return means over draws, and the central 95 % over draws and patients drawn anew."""
    source = np.random.default_rng(1)
    scores: dict[str, list[float]] = {}
    spread: dict[str, list[float]] = {}
    for task, cases in drawn:
        for name, value in task.metrics(cases).items():
            scores.setdefault(name, []).append(value)
        for _ in range(n_again):
            again = [cases[i] for i in source.integers(len(cases), size=len(cases))]
            again = [replace(c, subject=f"{c.subject} {i}") for i, c in enumerate(again)]
            for name, value in task.metrics(again).items():
                spread.setdefault(name, []).append(value)
    names = [n for n in ("balanced_accuracy", "auc", "mae", "r2") if n in scores]
    low, high = ({n: np.nanquantile(spread[n], q) for n in names} for q in (0.025, 0.975))
    return "; ".join(f"{n} {np.mean(scores[n]):.3f} ({low[n]:.3f} to {high[n]:.3f})" for n in names)


def _fitted(
    one: Hospitals, epsilon: float, source: np.random.Generator, *, is_shared: bool
) -> Arrays:
    """Return the head that comes of the hospitals' sums with one draw of noise."""
    z = noise_for(epsilon, one.delta, 1.0, 1) if math.isfinite(epsilon) else 0.0
    n_shares = max(1, len(one.patients) - 1) if is_shared else 1
    sums = replace(one.stage, noise_multiplier=z, n_shares=n_shares).fit(one.made)
    shared: Arrays = {}
    for step in range(sums.n_steps):
        parts = [_noised(sums, step, p, shared, source) for p in one.patients]
        total = {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}
        shared = sums.combine(step, total, shared)
    return shared


def _halves(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return what embeds an image, and the head."""
    assert isinstance(network, nn.Sequential)
    embed, head = network
    return embed, head


def _noised(
    sums: HeadSums, step: int, patients: Patients, shared: Arrays, source: np.random.Generator
) -> Arrays:
    std = sums.noise_of(step) / math.sqrt(sums.n_shares)
    found = sums.site_sums(step, patients, shared)
    return {n: v + (n != N_SITES) * source.normal(0, std, v.shape) for n, v in found.items()}


def _cases(one: Hospitals, fitted: Arrays | None) -> list[Case]:
    """Return the test patients' results under a head, or under the seeded one."""
    head = {} if fitted is None else one.stage.finished(one.made, fitted)
    load_weights(one.network, {**one.made.entries, **head})
    task, (examples, features) = one.made.plan.target, one.tested
    with torch.no_grad():
        predicted = task.predict(_halves(one.network)[1](features))
    readings: dict[tuple[str, str], list[Reading]] = {}
    rows = zip(examples, predicted, strict=True)
    for _, group in groupby(rows, key=lambda row: (row[0].site, row[0].scan)):
        scan = list(group)
        own = [example for example, _ in scan]
        truth = torch.tensor([example.target for example in own])
        reading = task.read(torch.stack([row for _, row in scan]), truth, own)
        readings.setdefault((own[0].site, own[0].subject), []).append(reading)
    return [task.case(*patient, readings[patient]) for patient in sorted(readings)]


def _attacked(one: Hospitals, epsilon: float) -> str:
    """Tell whether the worst patient is there, knowing all others and the mechanism."""
    source, own = np.random.default_rng(1), one.patients[0]
    z = noise_for(epsilon, one.delta, 1.0, 1)
    sums = replace(one.stage, noise_multiplier=z).fit(one.made)
    worst = Patients(np.eye(1, sums.n_numbers) * 1e3, own.answers[:1] * 1e3)
    joined = Patients(
        np.vstack([own.numbers, worst.numbers]), np.vstack([own.answers, worst.answers])
    )
    members, others = (
        np.array([_score(sums, own, held, source) for _ in range(N_ATTACKS)])
        for held in (joined, own)
    )
    bound = epsilon_at_least(members, others, one.delta, 0)
    return f"attack at epsilon {epsilon:g}, delta {one.delta:.2g}: at least {bound:.2f}"


def _score(sums: HeadSums, known: Patients, held: Patients, source: np.random.Generator) -> float:
    """Return the likelihood ratio of both releases, up to a constant."""
    shared: Arrays = {}
    total = 0.0
    worst = Patients(np.eye(1, sums.n_numbers) * 1e3, known.answers[:1] * 1e3)
    for step in range(sums.n_steps):
        seen = _noised(sums, step, held, shared, source)
        without = sums.site_sums(step, known, shared)
        alone = sums.site_sums(step, worst, shared)
        std = sums.noise_of(step)
        names = [name for name in seen if name != N_SITES]
        total += sum(float(((seen[n] - without[n]) * alone[n]).sum()) for n in names) / std**2
        total -= sum(float((alone[n] ** 2).sum()) for n in names) / (2 * std**2)
        shared = sums.combine(step, seen, shared)
    return total


if __name__ == "__main__":
    main()
