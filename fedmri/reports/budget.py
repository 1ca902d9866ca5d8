"""What each arm took to train: steps and examples, counted by the sites and shown for every arm."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from fedmri.arm import Comparison
from fedmri.reports.results import Results


@dataclass(frozen=True)
class ArmBudget:
    """What the sites of an arm took together, of one seed on average.

    Attributes:
        label: Row of the result table.
        n_steps: Steps of the optimizer; NaN where a secure sum hides them.
        n_seen: Examples in them, each as often as it was seen; those expected under patient-level
            noise; NaN where nothing told.
        share: Steps over those of the pooled arm; NaN where there is none.
    """

    label: str
    n_steps: float
    n_seen: float
    share: float


def arm_budgets(results: Results) -> tuple[ArmBudget, ...]:
    """Return what each arm took, in the order of the records."""
    steps: dict[str, float] = defaultdict(float)
    seen: dict[str, float] = defaultdict(float)
    seeds: dict[str, set[int]] = defaultdict(set)
    for record in results.of_kind("round"):
        arm = str(record.get("arm"))
        group = results.comparison.group_of(arm)
        label = group.label if group is not None else arm
        seeds[label].add(int(record.get("seed", 0)))
        if record.get("status", "ok") == "ok":
            steps[label] += float(record.get("n_steps", math.nan))
            seen[label] += float(record.get("n_seen", math.nan))
    means = {label: steps[label] / len(own) for label, own in seeds.items()}
    return tuple(
        ArmBudget(
            label,
            means[label],
            seen[label] / len(own),
            _share(means[label], means.get(_pooled_beside(label, results.comparison), math.nan)),
        )
        for label, own in seeds.items()
    )


def _pooled_beside(label: str, comparison: Comparison) -> str:
    """Return the pooled row that a row is held against: with or without the site, as it is."""
    groups = {group.label: group for group in comparison.groups}
    is_left_out = label in groups and groups[label].is_left_out
    pooled = (g for g in groups.values() if g.role == "pooled" and g.is_left_out == is_left_out)
    return next((group.label for group in pooled), "")


def _share(n_steps: float, n_pooled: float) -> float:
    return n_steps / n_pooled if n_pooled else math.nan


def budget_rows(budgets: Sequence[ArmBudget]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the cells of the table of budgets."""
    head = ["Model", "Steps", "Examples seen", "Steps of the pooled arm"]
    cells = [
        [
            one.label,
            *(f"{n:,.0f}" if math.isfinite(n) else "not told" for n in (one.n_steps, one.n_seen)),
            f"{one.share:.2f}" if math.isfinite(one.share) else "\N{EN DASH}",
        ]
        for one in budgets
    ]
    return head, cells


def unequal(budgets: Sequence[ArmBudget]) -> list[str]:
    """Return arms whose steps differ from the pooled arm's, with how many times they took."""
    return [
        f"{one.label} {one.share:.2f}"
        for one in budgets
        if math.isfinite(one.share) and not math.isclose(one.share, 1, abs_tol=5e-3)
    ]
