"""What hiding a whole hospital would cost, in print."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedmri.api.privacy.site import SitePrivacyPlan


def print_site(found: SitePrivacyPlan, *, as_json: bool) -> None:
    """Print the noise for a hospital's epsilon, and what it does to a mean over hospitals."""
    if as_json:
        _print_json(found)
    else:
        _print_table(found)


def _print_json(found: SitePrivacyPlan) -> None:
    import json

    values = {
        "unit": "one hospital",
        "noise_multiplier": found.noise_multiplier,
        "epsilon": found.epsilon,
        "delta": found.delta,
        "noise_over_clip_norm": [asdict(row) for row in found.by_sites],
    }
    print(json.dumps(values, indent=1))


def _print_table(found: SitePrivacyPlan) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"One hospital spends epsilon {found.epsilon:.2f} at delta {found.delta:.2g} "
        f"in {found.n_rounds} rounds:",
        highlight=False,
    )
    console.print(*found.settings)
    title = f"Noise on the mean of {found.n_values:,} numbers; the signal is 1 at most"
    table = Table(title=title, title_justify="left")
    for name in ("hospitals", "server sees each", "server sees the sum alone"):
        table.add_column(name, justify="right")
    for row in found.by_sites:
        cells = (f"{row.each_adds_all:.2f}", f"{row.sum_alone_seen:.2f}")
        table.add_row(str(row.n_sites), *cells)
    console.print(table)
    for line in _remarks(found):
        console.print(line, highlight=False)


def _remarks(found: SitePrivacyPlan) -> list[str]:
    n_sites = found.n_sites
    own = next(row for row in found.by_sites if row.n_sites == n_sites)
    lines = []
    if own.each_adds_all > 1:
        lines.append(
            f"With {n_sites} hospitals the noise is {own.each_adds_all:.1f} times the largest "
            "signal there can be: little is learned in a round, whatever the clip norm. Share "
            "fewer numbers, take fewer rounds, or protect patients instead (--unit patient)."
        )
    lines.append(
        f"Under secure aggregation each adds a share (privacy.site.n_shares={n_sites}) and "
        f"the mean has {own.sum_alone_seen:.2f}. A hospital that stays away leaves its share out, "
        "and each knows its own: its ledger counts its share alone, which costs it more epsilon."
    )
    lines.append("Outside of it: numbers of patients, scores, harmonization.")
    return lines
