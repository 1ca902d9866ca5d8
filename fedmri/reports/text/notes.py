"""What to read a result with: few patients, few trainings, many comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fedmri.evaluate.comparisons.gap import LEAST_PATIENTS
from fedmri.reports import models
from fedmri.reports.budget import ArmBudget, unequal
from fedmri.reports.models import Model
from fedmri.reports.results import Results, site_name
from fedmri.reports.statistics.intervals import n_of
from fedmri.reports.statistics.verdicts import ENOUGH_TRAININGS, is_of_few_trainings

MOST_GAINED = 0.05
"""An area over all patients may exceed the one within hospitals by so much without a word."""


def notes_of(rows: Sequence[Model], inside: Sequence[str], n_compared: int) -> Iterator[str]:
    """Yield a sentence or two on each thing that bounds what can be claimed.

    Args:
        rows: Models of the table.
        inside: Sites that took part.
        n_compared: Differences of the table.
    """
    yield from _of_trainings(rows)
    yield from _by_design(rows)
    whole = [model for model in rows if model.group.is_left_out]
    others = [m for m in rows if not m.group.is_left_out and not m.group.is_beside]
    if whole:
        n_whole = max(n_of(models.only(model.patients(), inside)) for model in whole)
        yield (
            f"Models without a site are tested on all its patients, {n_whole} patients in sum. "
            "The others know most of them. Differences are over patients that neither knows."
        )
    for alike in (whole, others):
        yield from _tested_on_fewer(alike, inside)
    sizes = {site: len(names) for model in rows for site, names in model.patients()}
    if small := [
        f"{site_name(site)} {n}" for site, n in sorted(sizes.items()) if n < LEAST_PATIENTS
    ]:
        yield (
            f"Fewer than {LEAST_PATIENTS} test patients, intervals may still be too narrow: "
            f"{', '.join(small)}."
        )
    if n_compared > 1:
        yield (
            f"{n_compared} comparisons were made. Verdicts are adjusted for their number (Holm); "
            "intervals are not, so one may leave out zero and show nothing."
        )


def _by_design(rows: Sequence[Model]) -> Iterator[str]:
    """Yield what an arm lacks beside the pooled one by its design, one line for those alike."""
    named: dict[str, list[str]] = {}
    for row in rows:
        if row.group.handicap and not row.group.is_beside:
            named.setdefault(row.group.handicap, []).append(row.label)
    for handicap, labels in named.items():
        yield f"Handicapped by design beside pooled training: {', '.join(labels)} ({handicap})."


def _tested_on_fewer(rows: Sequence[Model], inside: Sequence[str]) -> Iterator[str]:
    counts = {row.label: n_of(models.only(row.patients(), inside)) for row in rows}
    n_most = max(counts.values(), default=0)
    for label, n in counts.items():
        if n < n_most:
            yield f"{label} was tested on {n} of {n_most} patients; compare with care."


def _of_trainings(rows: Sequence[Model]) -> Iterator[str]:
    n_seeds = {model.label: model.n_seeds for model in rows if not model.group.is_reference}
    once = [label for label, n in n_seeds.items() if n == 1]
    if once:
        which = "all models" if len(once) == len(n_seeds) else ", ".join(once)
        yield f"Trained with one seed: {which}. Chance in training is not in their intervals."
    few = [label for label, n in n_seeds.items() if n > 1 and is_of_few_trainings(n)]
    if few:
        which = "all models" if len(few) == len(n_seeds) else ", ".join(few)
        yield (
            f"Trained with fewer than {ENOUGH_TRAININGS} seeds: {which}. "
            "Their verdicts are of these trainings."
        )
    if len(set(n_seeds.values())) > 1:
        counts = ", ".join(f"{label} {n}" for label, n in n_seeds.items())
        yield f"Arms were trained with unequal numbers of seeds: {counts}."


def area_notes(found: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """Yield what areas over all patients gain from hospitals that differ in prevalence.

    Args:
        found: By model, its area over all patients and the mean within hospitals.
    """
    for label, (over_all, within) in found.items():
        if over_all - within > MOST_GAINED:
            yield (
                f"The area of {label} is {over_all:.2f} over all patients and {within:.2f} within "
                "hospitals. Where prevalence differs, knowing the hospital raises the first."
            )


def protocol_notes(results: Results, budgets: Sequence[ArmBudget]) -> Iterator[str]:
    """Yield a sentence or two on arms that had more to learn from, or saw what is scored."""
    if uneven := unequal(budgets):
        yield (
            f"Budgets differ. Steps over those of the pooled arm: {', '.join(uneven)}. "
            "A site that failed in a round took none; Ditto trains a second model."
        )
    adapted: dict[str, set[str]] = {}
    for record in results.of_kind("test"):
        if dict(record.get("metrics") or {}).get("is_adapted"):
            arm = results.comparison.arm(str(record.get("arm")))
            which = f"{arm.role} (site left out)" if arm.left_out else arm.role
            adapted.setdefault(which, set()).add(str(record.get("site")))
    for kind, sites in adapted.items():
        named = ", ".join(site_name(site) for site in sorted(sites))
        yield (
            f"Transductive scores: under {kind}, the model was adapted to the very images that are "
            f"scored, without their answers, at {named}. A hospital with one new patient has less."
        )
