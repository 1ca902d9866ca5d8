"""The linter of claims: every rule over every claim."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fedmri.evaluate.claims import numbers, shares
from fedmri.evaluate.claims.mistakes import mistakes_in
from fedmri.evaluate.claims.paper import Claim, Paper
from fedmri.evaluate.claims.stated import Finding, Severity

Rule = Callable[[Claim], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    shares.counts_fit,
    shares.is_attainable,
    shares.f1_follows,
    shares.accuracy_is_between,
    shares.has_table,
    shares.implied_specificity,
    shares.beats_majority,
    numbers.r2_is_below_r,
    numbers.interval_holds_value,
    numbers.auc_is_attainable,
    numbers.drop_is_right,
    numbers.external_is_attainable,
    numbers.iterations_fit,
    numbers.parts_add_up,
    numbers.size_fits_parameters,
)
ORDER: tuple[Severity, ...] = ("impossible", "unlikely", "flag", "note")


def lint(paper: Paper) -> tuple[Finding, ...]:
    """Return what is wrong with a paper's claims, the worst first.

    A claim that passes is not proven: it only does not contradict itself.

    Args:
        paper: Of ``read_paper`` or ``paper_of``.

    Raises:
        UsageError: Its methods answer in a way that is not known (U81).

    Source:
        Brown and Heathers 2017, doi:10.1177/1948550616673876 (GRIM: means that n cannot give);
        Kapoor and Narayanan 2023, doi:10.1016/j.patter.2023.100804 (leakage).
    """
    found = [finding for claim in paper.claims for rule in RULES for finding in rule(claim)]
    found += [*_twins(paper.claims), *mistakes_in(paper.methods)]
    return tuple(sorted(found, key=lambda finding: ORDER.index(finding.severity)))


def _twins(claims: Iterable[Claim]) -> Iterator[Finding]:
    """Yield claims of different models whose several numbers are the same to the last digit."""
    known: dict[tuple[tuple[str, str], ...], str] = {}
    for claim in claims:
        said = sorted((name, one.text) for name, one in {**claim.shares, **claim.numbers}.items())
        if len(said) < 2:
            continue
        first = known.setdefault(tuple(said), claim.name)
        if first != claim.name:
            text = f"all numbers are those of {first}: was a row copied?"
            yield Finding(claim.name, "twins", "unlikely", text)
