"""What hiding a whole hospital would cost: the noise, beside all that there could be to learn."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from fedmri.errors import require

OTHERS = (20, 100, 1000)
"""Numbers of hospitals that the asked one is set beside."""


@dataclass(frozen=True)
class SiteBudget:
    """What is asked for.

    Attributes:
        epsilon: Of one hospital, over all rounds.
        delta: Of the same.
        n_rounds: Releases.
        n_sites: Hospitals.
        n_values: Numbers of a release.
    """

    epsilon: float
    delta: float
    n_rounds: int
    n_sites: int
    n_values: int

    def __post_init__(self) -> None:
        require(0 < self.delta < 1, "--delta", self.delta, "above 0, below 1")
        require(self.n_rounds >= 1, "--rounds", self.n_rounds, "1 or more")
        require(self.n_sites >= 1, "--sites", self.n_sites, "1 or more")
        require(self.n_values >= 1, "--dimensions", self.n_values, "1 or more")


@dataclass(frozen=True)
class _Row:
    """Noise on the mean over hospitals, as a norm in units of the clip norm.

    Attributes:
        n_sites: Hospitals.
        each_adds_all: Where the server sees each release.
        sum_alone_seen: Where each adds a share, under secure aggregation.
    """

    n_sites: int
    each_adds_all: float
    sum_alone_seen: float


def print_site(budget: SiteBudget, *, as_json: bool) -> None:
    """Print the noise for a hospital's epsilon, and what it does to a mean over hospitals.

    Raises:
        PrivacyError: No noise is enough (P30).
        ConfigError: A number is out of range (C01).
    """
    from fedmri.privacy.accounting import Steps, noise_for, spent
    from fedmri.privacy.site_level import mean_error

    noise = noise_for(budget.epsilon, budget.delta, 1.0, budget.n_rounds)
    cost = spent([Steps(noise, 1.0, budget.n_rounds)], budget.delta).epsilon
    rows = [
        _Row(n, *(mean_error(noise, budget.n_values, n, is_shared=s) for s in (False, True)))
        for n in sorted({budget.n_sites, *OTHERS})
    ]
    if as_json:
        _print_json(budget, noise, cost, rows)
    else:
        _print_table(budget, noise, cost, rows)


def _print_json(budget: SiteBudget, noise: float, cost: float, rows: list[_Row]) -> None:
    import json

    values = {
        "unit": "one hospital",
        "noise_multiplier": noise,
        "epsilon": cost,
        "delta": budget.delta,
        "noise_over_clip_norm": [asdict(row) for row in rows],
    }
    print(json.dumps(values, indent=1))


def _print_table(budget: SiteBudget, noise: float, cost: float, rows: list[_Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"One hospital spends epsilon {cost:.2f} at delta {budget.delta:.2g} "
        f"in {budget.n_rounds} rounds:",
        highlight=False,
    )
    console.print(f"privacy.site.noise_multiplier={noise:.4g}")
    title = f"Noise on the mean of {budget.n_values:,} numbers; the signal is 1 at most"
    table = Table(title=title, title_justify="left")
    for name in ("hospitals", "server sees each", "server sees the sum alone"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = (f"{row.each_adds_all:.2f}", f"{row.sum_alone_seen:.2f}")
        table.add_row(str(row.n_sites), *cells)
    console.print(table)
    for line in _remarks(budget, noise, rows):
        console.print(line, highlight=False)


def _remarks(budget: SiteBudget, noise: float, rows: list[_Row]) -> list[str]:
    from fedmri.privacy.site_level import mean_error

    n_sites, n_values = budget.n_sites, budget.n_values
    own = next(row for row in rows if row.n_sites == n_sites)
    lines = []
    if own.each_adds_all > 1:
        lines.append(
            f"With {n_sites} hospitals the noise is {own.each_adds_all:.1f} times the largest "
            "signal there can be: little is learned in a round, whatever the clip norm. Share "
            "fewer numbers, take fewer rounds, or protect patients instead (--unit patient)."
        )
    ratio = mean_error(noise, n_values, n_sites, is_shared=True)
    lines.append(
        f"Under secure aggregation each adds a share (privacy.site.n_shares={n_sites}) and "
        f"the mean has {ratio:.2f}. A hospital that stays away leaves its share out, and each "
        "knows its own: its ledger counts its share alone, which costs it more epsilon."
    )
    lines.append("Outside of it: numbers of patients, scores, harmonization.")
    return lines
