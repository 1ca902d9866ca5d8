"""The command that lays hospitals' explanations side by side: agree."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedmri.explain.agreement import Agreement


def agree(
    summaries: Annotated[
        list[Path],
        typer.Argument(
            metavar="SUMMARY...",
            help="Summary of each hospital, in a file that is named for the hospital.",
        ),
    ],
) -> None:
    """Tell whether hospitals agree on where a model looks, from their aggregates alone.

    Each hospital runs `fedmri explain` with masks on its own patients and sends its summary.json.
    """
    from fedmri.explain.agreement import agreement_of

    for one in agreement_of(summaries):
        for line in _lines(one):
            print(line)


def _lines(one: Agreement) -> Iterator[str]:
    yield f"{one.method}:"
    for name, share in one.shares.items():
        gain = one.gains[name]
        n, inside = gain.n_subjects, f"in masks {_of(share.value, share.low, share.high)}"
        more = f"more than untrained by {_of(gain.value, gain.low, gain.high)}"
        yield f"  {name}, {n} patients: {inside}; {more}; it {one.trusted[name]}."
    together = one.together
    if together is None:
        yield "  No mean: fewer than three hospitals have an interval."
        return
    mean = _of(together.mean, together.low, together.high)
    yield f"  All {together.n_hospitals}: more than untrained by {mean}."
    differ = "differ" if one.p_alike < 0.05 else "are not shown to differ"
    yield f"  Hospitals {differ} (p {one.p_alike:.3f})."


def _of(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "unknown"
    return f"{value:.3f}" if math.isnan(low) else f"{value:.3f} ({low:.3f} to {high:.3f})"
