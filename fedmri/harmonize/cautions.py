"""What a reader must be told although the work went on: values of the result, never only a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fedmri.harmonize.combat.combat_site import FEWEST, SiteEffect
from fedmri.harmonize.sums import Arrays

NEARLY_SINGULAR = 1e6
"""Condition of the covariates within sites from which on their effects are hardly told apart."""

MAX_NAMED = 5


@dataclass(frozen=True)
class Caution:
    """A code of docs/errors.md and what was found here, in a sentence."""

    code: str
    text: str


def of_fit(parameters: Arrays, columns: Sequence[str], features: Sequence[str]) -> list[Caution]:
    """Return what is to be told of shared parameters.

    Args:
        parameters: What the last ``combine`` returned.
        columns: Names of the covariate columns.
        features: Names of the features.
    """
    return list(_of_fit(parameters, columns, features))


def _of_fit(
    parameters: Arrays, columns: Sequence[str], features: Sequence[str]
) -> Iterator[Caution]:
    if parameters["n_sites"][0] < 2:
        yield Caution("H12", "Only one site took part: there is no other site to harmonize with.")
    condition = parameters["condition"]
    finite = condition[np.isfinite(condition)]
    if finite.size and finite.max() > NEARLY_SINGULAR:
        text = (
            f"{', '.join(columns)}: nearly confounded with site or with each other "
            f"(condition {finite.max():.0e}); their effects are hardly separable from the sites'."
        )
        yield Caution("H08", text)
    left = np.flatnonzero(parameters["is_fitted"] == 0)
    if left.size:
        names = named([features[k] for k in left[: MAX_NAMED + 1]], left.size)
        text = (
            "Left unchanged, because they do not vary, vary at only one site, or too few rows have "
            f"them: {names}."
        )
        yield Caution("H09", text)
    n_excluded = int(parameters["n_excluded"][0])
    if n_excluded:
        text = f"{n_excluded} rows with a missing covariate took no part in the fit."
        yield Caution("H04", text)


def of_site(effect: SiteEffect, mode: str, features: Sequence[str] = ()) -> list[Caution]:
    """Return what is to be told of a site's own effect.

    Args:
        effect: Of the site.
        mode: The mode that was asked for.
        features: Names of the features, to name those that were left.
    """
    if effect.is_reference:
        return []
    found = []
    flat = np.flatnonzero(effect.is_flat)
    if flat.size:
        names = [features[k] if features else f"feature {k}" for k in flat[: MAX_NAMED + 1]]
        text = (
            f"{effect.site}: left unchanged, because one value makes up nearly all rows here: "
            f"{named(names, flat.size)}. The other sites were harmonized without this site."
        )
        found.append(Caution("H34", text))
    if effect.used_mode != mode:
        text = f"{effect.site}: no empirical Bayes, because it needs at least two features."
        found.append(Caution("H10", text))
    n_few = int(((effect.n > 0) & (effect.n < FEWEST)).sum())
    if n_few:
        text = (
            f"{effect.site}: {n_few} features have fewer than {FEWEST} values; only their mean was "
            "adjusted."
        )
        found.append(Caution("H10", text))
    return found


def named(names: Sequence[str], n: int) -> str:
    """Return the first of ``n`` names, and how many more there are."""
    shown = ", ".join(names[:MAX_NAMED])
    return shown if n <= MAX_NAMED else f"{shown} and {n - MAX_NAMED} more"
