"""What a private last layer would cost and lose, in print."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedmri.api.privacy.head import HeadPlan


def print_head(found: HeadPlan, *, as_json: bool) -> None:
    """Print the noise for a patient's epsilon, and what it does to a model of few numbers."""
    if as_json:
        _print_json(found)
    else:
        _print_table(found)


def _print_json(found: HeadPlan) -> None:
    import json

    values = {
        "unit": "one patient",
        "noise_multiplier": found.noise_multiplier,
        "epsilon": found.epsilon,
        "delta": found.delta,
        "n_shares": found.n_shares,
        "best": found.best.n_numbers,
        "by_numbers": [{**asdict(row), "loss": row.loss} for row in found.rows],
    }
    print(json.dumps(values, indent=1))


def _print_table(found: HeadPlan) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"One patient at one site spends epsilon {found.epsilon:.2f} at delta {found.delta:.2g}, "
        "once:",
        highlight=False,
    )
    console.print(*found.settings)
    table = Table(title="Two classes in a simulation", title_justify="left")
    for name in ("numbers of a patient", "AUC without noise", "AUC with noise", "loss"):
        table.add_column(name, justify="right")
    for row in found.rows:
        cells = (f"{row.auc:.3f}", f"{row.private_auc:.3f}", f"{row.loss:.3f}")
        mark = " (best)" if row is found.best else ""
        table.add_row(f"{row.n_numbers}{mark}", *cells)
    console.print(table)
    console.print(
        "Assumed: k numbers keep k / (k + 8) of the squared distance between the classes. "
        "Your images may keep more or less. Outside of epsilon: numbers of patients, scores.",
        highlight=False,
    )
