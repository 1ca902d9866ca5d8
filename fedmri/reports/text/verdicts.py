"""A run in five plain sentences, and its findings by hospital in one sentence each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fedmri.reports.benefit import Benefit, Given
from fedmri.reports.reliability.calibration import Calibration
from fedmri.reports.results import site_name
from fedmri.reports.summary import Summary
from fedmri.reports.text.words import DASH, capital, headline, metric_name, number, span

WORTH = {
    "better": "joining was worth it",
    "worse": "joining was not worth it",
    "no difference shown": "it is not shown whether joining is worth it",
    "cannot be said": "nothing can be said about joining",
}


def five_sentences(summary: Summary) -> list[str]:
    """Return what a run showed: score, worth, elsewhere, a new hospital, probabilities.

    Where a question was not asked, its sentence says how to ask it.
    """
    return [
        headline(summary),
        _worth(summary.benefits),
        _elsewhere(summary),
        _new_hospital(summary),
        _probabilities(summary.calibrations),
    ]


def elsewhere_sentences(summary: Summary) -> list[str]:
    """Return what was found of hospitals that took no part; nothing where that was not asked."""
    is_asked = summary.generalisation or summary.left_out
    told = [_elsewhere(summary)] if is_asked else []
    return [*told, *([_new_hospital(summary)] if summary.new_site else [])]


def _worth(benefits: Sequence[Benefit]) -> str:
    if not benefits:
        return "Whether joining is worth it was not asked: it needs the arms federated and local."
    best: dict[str, Benefit] = {}
    for one in benefits:
        known = best.get(one.site)
        if known is None or _rank(one) > _rank(known):
            best[one.site] = one
    counts = Counter(WORTH[one.verdict] for one in best.values())
    told = [f"at {n} of {len(best)} hospitals {text}" for text, n in counts.most_common()]
    return f"{capital('; '.join(told))}."


def _rank(one: Benefit) -> tuple[bool, bool, float]:
    return one.verdict == "better", one.verdict != "worse", one.gain.value


def _elsewhere(summary: Summary) -> str:
    lost = summary.generalisation or summary.left_out
    if lost is None:
        return "Other hospitals were not asked: use simulation.protocol=loso or --external."
    where = "external hospitals" if summary.generalisation else "hospitals that were left out"
    gap = f"{number(lost.gap.value, is_signed=True)} ({span(lost.gap, is_signed=True)})"
    return f"At {where}, the loss in {metric_name(summary.metric)} was {gap}; {lost.verdict}."


def _new_hospital(summary: Summary) -> str:
    found = summary.new_site
    if found is None:
        return "A new hospital cannot be predicted: that takes three hospitals that were left out."
    return (
        f"At a new hospital like these {found.n_sites}, {metric_name(summary.metric)} is predicted "
        f"between {number(found.low)} and {number(found.high)} (95 %)."
    )


def _probabilities(found: Sequence[Calibration]) -> str:
    if not found:
        return "Probabilities were not judged: the answers are no classes, or too few patients."
    first = found[0]
    seen = "more than chance" if first.p_value <= 0.05 else "no more than chance"
    return (
        f"Probabilities of {first.label} were off by {number(first.ece)}, where a perfect model of "
        f"{first.n_subjects} patients is off by {number(first.null)}: {seen} explains."
    )


def benefit_rows(benefits: Sequence[Benefit]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the cells of the table of what joining gave."""
    head = ["Hospital", "Model", "Gain over its own model", "Patients", "Shown"]
    rows = [
        [
            site_name(one.site),
            one.label,
            f"{number(one.gain.value, is_signed=True)} ({span(one.gain, is_signed=True)})",
            str(one.gain.n_subjects),
            WORTH[one.verdict],
        ]
        for one in benefits
    ]
    return head, rows


def given_rows(given: Sequence[Given]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the cells of the table of what each hospital gave to the others."""
    head = ["Left out", "Gain of the others by it", "Patients", "Shown of training with it"]
    rows = [
        [
            site_name(one.site),
            f"{number(one.gain.value, is_signed=True)} ({span(one.gain, is_signed=True)})",
            str(one.gain.n_subjects),
            one.verdict,
        ]
        for one in given
    ]
    return head, rows


def calibration_rows(found: Sequence[Calibration]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the cells of the table of calibration."""
    head = ["Model", "Calibration error", "Of a perfect model", "p", "Brier", "Slope", "Intercept"]
    head += ["Wrong of all", "Wrong of the surest"]
    rows = []
    for one in found:
        line = one.line
        fitted = (None, None) if line is None else (line.slope, line.intercept)
        estimates = (one.brier, *fitted)
        cells = [f"{number(e.value)} ({span(e)})" if e is not None else DASH for e in estimates]
        first = (number(one.ece), number(one.null), f"{one.p_value:.3f}")
        surest, everybody = one.selected[0], one.selected[-1]
        wrong = number(everybody[1]), f"{number(surest[1])} of {surest[2]}"
        rows.append([one.label, *first, *cells, *wrong])
    return head, rows
