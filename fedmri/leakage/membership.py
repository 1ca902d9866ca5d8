"""Membership inference: who was trained on has a lower loss than who was not.

Source:
    Yeom, Giacomelli, Fredrikson and Jha 2018, Privacy risk in machine learning,
    doi:10.1109/CSF.2018.00027 (the loss alone, no shadow models). Carlini et al. 2022, Membership
    inference attacks from first principles, arXiv:2112.03570 (true positives at few false ones).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedmri.leakage.release import Loss, unmeasured
from fedmri.round import Batch

LEVEL = 0.95
"""Coverage of intervals."""

FALSE_POSITIVE_RATE = 0.01
"""False positive rate at which true positives are counted."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class MembershipScore:
    """How well losses tell patients who were trained on from those who were not.

    Attributes:
        auc: Chance that a member has a lower loss than a patient who is none; 0.5 says nothing.
        low: Lower end of its 95 % interval.
        high: Upper end.
        tpr_at_few: Share of members named where at most 1 % of the others are. Below 100 others
            that is: where none of them is.
        n_members: Patients who were trained on.
        n_others: Patients who were not.
    """

    auc: float
    low: float
    high: float
    tpr_at_few: float
    n_members: int
    n_others: int

    @property
    def advantage(self) -> float:
        """What the lower end is beyond chance, 0 to 1: few patients are no proof of leakage."""
        return max(0.0, 2 * self.low - 1)


def patient_losses(network: nn.Module, loss: Loss, batches: Iterable[Batch]) -> dict[str, float]:
    """Return the mean loss of each patient's examples."""
    losses: dict[str, list[float]] = defaultdict(list)
    with torch.no_grad():
        for batch in batches:
            for i, subject in enumerate(batch.subjects):
                outputs = network(*(each[i : i + 1] for each in batch.inputs))
                losses[subject].append(float(loss(outputs, batch.target[i : i + 1])))
    return {subject: math.fsum(values) / len(values) for subject, values in losses.items()}


def losses_of(network: nn.Module, loss: Loss, batches: Iterable[Batch]) -> Values:
    """Return the losses of ``patient_losses`` without the names, shape ``(n,)``."""
    return np.array(list(patient_losses(network, loss, batches).values()))


def perfect(n: int, m: int) -> MembershipScore:
    """Return the score of an attack that names all of ``n`` members among ``m`` others."""
    return membership(np.zeros(n), np.ones(m))


def membership(members: Values, others: Values) -> MembershipScore:
    """Return how well losses tell members from others.

    Args:
        members: Losses of patients who were trained on, shape ``(n,)``.
        others: Losses of patients who were not, shape ``(m,)``.

    Raises:
        PrivacyError: There is none of either, or a loss is not a number (P61).
    """
    n, m = len(members), len(others)
    if not n or not m or np.isnan(members).any() or np.isnan(others).any():
        raise unmeasured(f"losses of {n} and {m} patients", "1 or more of either, all numbers")
    from scipy.stats import rankdata  # seconds to import, and most processes measure nothing
    from sklearn.metrics import roc_auc_score

    truth = np.repeat([1, 0], [n, m])
    # ranks, so that an infinite loss is one that is larger than all others
    ranks = rankdata(np.concatenate([members, others]))
    auc = float(roc_auc_score(truth, -ranks))
    low, high = auc_interval(auc, n, m)
    threshold = np.sort(others)[math.floor(FALSE_POSITIVE_RATE * m)]
    return MembershipScore(auc, low, high, float((members < threshold).mean()), n, m)


def auc_interval(auc: float, n: int, m: int) -> tuple[float, float]:
    """Return a 95 % interval of an area under the curve, also where it is 0 or 1.

    Args:
        auc: The area.
        n: Members.
        m: Others.

    Source:
        Newcombe 2006, doi:10.1002/sim.2324, method 5: the areas from which the one found is not
        further away than chance has it, with the variance of Hanley and McNeil 1982.
    """
    from scipy import optimize, special

    z = float(special.ndtri((1 + LEVEL) / 2))
    middle = (n + m) / 2 - 1

    def distance(area: float) -> float:
        spread = 1 + middle * ((1 - area) / (2 - area) + area / (1 + area))
        return (area - auc) ** 2 - z * z * area * (1 - area) * spread / (n * m)

    # at 0 and 1 the distance is zero as well, so the area itself is kept off them
    inside = min(max(auc, 1e-9), 1 - 1e-9)
    low = 0.0 if auc <= 0 else float(optimize.brentq(distance, 0, inside))
    high = 1.0 if auc >= 1 else float(optimize.brentq(distance, inside, 1))
    return low, high


def draw_canaries(like: Batch, n: int, seed: int) -> tuple[Batch, Batch]:
    """Return canaries to train on, and as many of the same sort to hold out.

    A canary is an image of noise in the range of intensities of ``like``, with a target of one of
    its examples: nothing but having seen it lowers its loss. ``membership`` of their losses bounds
    what the worst patient risks; trained on, they cost the model some of its quality.

    Args:
        like: Real examples, for shapes, intensities and targets.
        n: Canaries of either sort; each counts as a patient, ``canary-0000`` and so on.
        seed: Of noise and targets.

    Source:
        Carlini, Liu, Erlingsson, Kos and Song 2019, The secret sharer, arXiv:1802.08232.
    """
    source = torch.Generator().manual_seed(seed)
    low, high = float(like.image.min()), float(like.image.max())
    noise = torch.rand((2 * n, *like.image.shape[1:]), generator=source)
    rows = torch.randint(len(like.subjects), (2 * n,), generator=source)
    names = tuple(f"canary-{i:04d}" for i in range(2 * n))
    present = torch.ones((2 * n, like.present.shape[1]), dtype=torch.bool)
    image = (low + (high - low) * noise).to(like.image.dtype)
    covariates = None if like.covariates is None else like.covariates[rows]
    both = Batch(image, like.target[rows], present, names, names, covariates)
    return _rows(both, slice(0, n)), _rows(both, slice(n, 2 * n))


def _rows(batch: Batch, rows: slice) -> Batch:
    return replace(
        batch,
        image=batch.image[rows],
        target=batch.target[rows],
        present=batch.present[rows],
        subjects=batch.subjects[rows],
        scans=batch.scans[rows],
        covariates=None if batch.covariates is None else batch.covariates[rows],
    )
