"""Federated ComBat: the shared half of the model, from sums over sites alone.

A feature y of a site i is modelled as ``alpha + c'beta + sigma (gamma_i + delta_i e)``: c are the
covariates whose effect is kept, gamma and delta are what the scanner shifts and stretches. Here
sites fit ``beta``, ``alpha`` and ``sigma`` together; ``combat_site`` does the rest at each site.

By the theorem of Frisch, Waugh and Lovell, beta of the regression on all site intercepts and
covariates is that of the features on the covariates once both are centred within each site. So

- step 0 counts, and agrees on the power of two in which each feature travels;
- step 1 adds ``K = sum C~'C~`` and ``M = sum C~'Y~``; ``beta = K^-1 M``;
- step 2 adds ``n_i a_i`` and the squared residuals, of which alpha and sigma are means.

A feature that is missing somewhere has a K of its own, over the rows that have it.

Source:
    Johnson, Li and Rabinovic 2007, doi:10.1093/biostatistics/kxj037 (ComBat); Fortin et al. 2018,
    doi:10.1016/j.neuroimage.2017.11.024 (on MRI); Chen et al. 2022, doi:10.1002/hbm.25917
    (distributed); Lovell 1963, doi:10.1080/01621459.1963.10480682.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from fedmri.errors import HarmonizeError, require
from fedmri.harmonize.combat import covbat, slopes, spline
from fedmri.harmonize.combat.site_table import Array, SiteTable, centred, refuse_infinite, spread
from fedmri.harmonize.sums import Arrays

Mode = Literal["eb", "no_eb", "mean_only", "nonparametric"]
MODES: tuple[Mode, ...] = ("eb", "no_eb", "mean_only", "nonparametric")

_EXPONENTS = ("feature_exponent", "covariate_exponent")
_COUNTS = ("n_sites", "n", "n_excluded", "n_observed", "n_spread", "n_places")
FLAT = 1e-12
"""A residual below this share of a feature's size is rounding: there is nothing to harmonize."""


@dataclass(frozen=True)
class ComBat:
    """A ``SumStage`` over ``SiteTable``; its settings are the same at all sites.

    Attributes:
        n_features: p.
        columns: Names of the q covariate columns.
        mode: Empirical Bayes ``eb``; ``no_eb``; ``mean_only``, which leaves the spread;
            ``nonparametric`` empirical Bayes, of which the time grows with the square of p.
        reference: Site to whose scale all others are brought, itself left as it is.
        n_min: A site with fewer rows does not take part: its sums would show single patients.
        tolerance: Empirical Bayes stops where no value moves by a larger share.
        leaves_flat: A feature that hardly varies at a site takes no part there and stays as it is.
        smooth: Covariates whose effect may bend, as that of age does; see ``spline``.
        is_covbat: How features vary together is brought in line too; see ``covbat``.
        stored: Parameters of an earlier version to whose sums those of new sites are added.
    """

    n_features: int
    columns: tuple[str, ...] = ()
    mode: Mode = "eb"
    reference: str | None = None
    n_min: int = 10
    tolerance: float = 1e-4
    leaves_flat: bool = True
    smooth: tuple[str, ...] = ()
    is_covbat: bool = False
    stored: Arrays | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        require(self.n_features > 0, "combat.n_features", self.n_features, "1 or more")
        require(self.mode in MODES, "combat.mode", self.mode, f"one of {', '.join(MODES)}")
        require(self.n_min >= 1, "combat.n_min", self.n_min, "1 or more")
        require(self.tolerance > 0, "combat.tolerance", self.tolerance, "a positive number")
        self._refuse_unfit()

    @property
    def steps(self) -> tuple[str, ...]:
        """Counts; knots; K and M; intercepts and residuals; products and scores of CovBat."""
        knots, more = ("knots",) * bool(self.smooth), ("products", "scores") * self.is_covbat
        return ("counts", *knots, "slopes", "residuals", *more)

    @property
    def n_steps(self) -> int:
        """How often sites answer."""
        return len(self.steps)

    @property
    def design(self) -> tuple[str, ...]:
        """Names of the columns of the regression: bent terms of smooth covariates among them."""
        return spline.design(self.columns, self.smooth)

    def site_sums(self, step: int, data: SiteTable | tuple[()], shared: Arrays) -> Arrays:
        """Return a site's part of the sums of a step, additive over sites.

        Of no table at all, as who merely asks for the form has it: ``nothing``.

        Raises:
            HarmonizeError: The site has too few rows (H02), or its table has not the columns of the
                settings or holds infinite values (H11).
        """
        if not isinstance(data, SiteTable):
            return self.nothing(step, shared)
        self.check(data)
        name = self.steps[step]
        if name in ("products", "scores"):
            return self._beyond(name, data, shared)
        data = with_bends(data, shared)
        if name == "counts":
            sums = _zeroed(self._counts(data), is_zero=data.is_stored)
            return {**sums, "n_references": np.array([float(data.site == self.reference)])}
        if name == "knots":
            return spline.knot_sums(data.complete_covariates, shared["covariate_exponent"])
        if name == "slopes":
            return _zeroed(self._cross_products(data, shared), is_zero=data.is_stored)
        return self._residuals(data, shared)

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return what the server makes of the total of a step.

        Returns:
            After the last step the parameters, natural units, with the sums that a later refit
            adds to: ``alpha``, ``sigma``, ``is_fitted`` (p), ``beta`` (q, p), ``scatter`` K (1 or
            p, q, q), ``cross`` M (p, q), ``condition`` of K, counts and exponents.

        Raises:
            HarmonizeError: No site is the reference (H06); a covariate does not vary within any
                site, or depends on others (H03).
        """
        name = self.steps[step]
        if name == "counts":
            return self._agreed(total)
        if name == "knots":
            return self._bends(total, shared)
        if name == "slopes":
            return self._slopes(total, shared)
        if name == "residuals":
            return _scales(total, shared)
        if name == "products":
            return covbat.components(total, shared)
        return covbat.score_scales(total, shared)

    def _bends(self, total: Arrays, shared: Arrays) -> Arrays:
        exponent = shared["covariate_exponent"]
        is_smooth = np.array([float(name in self.smooth) for name in self.columns])
        knots = spline.knots_of(total, float(shared["n"][0]), exponent, is_smooth)
        more = {"knots": knots, "covariate_exponent": spline.repeated(exponent, knots)}
        return {**shared, **more}

    def _beyond(self, name: str, data: SiteTable, shared: Arrays) -> Arrays:
        # a site's effect builds on this module, and its residuals on that effect
        from fedmri.harmonize.combat.combat_site import fit_site, residuals

        own = residuals(shared, fit_site(replace(self, n_min=1), shared, data), data)
        if name == "products":
            return covbat.product_sums(shared, own)
        return covbat.score_sums(shared, own)

    def _refuse_unfit(self) -> None:
        """Refuse smooth terms or CovBat where they cannot be had (H39)."""
        unknown = [name for name in self.smooth if name not in self.columns]
        is_more = bool(self.smooth) or self.is_covbat
        found, want, fix = "", "", ""
        if unknown:
            found, want = f"smooth {', '.join(unknown)}", "kept covariates that are numbers"
            fix = "name it among the covariates; categories have no smooth effect"
        elif self.is_covbat and self.n_features > covbat.MOST_FEATURES:
            found, want = f"{self.n_features} features", f"{covbat.MOST_FEATURES} at most"
            fix = "harmonize fewer features, or without CovBat"
        elif self.is_covbat and self.reference is not None:
            found, want = f"reference site {self.reference}", "none"
            fix = "leave the reference out: components are those of all sites"
        elif is_more and self.stored is not None:
            found, want, fix = "a refit", "a fit from the start", "fit all sites together"
        if found:
            what = "CovBat" if self.is_covbat and not unknown else "smooth covariates"
            raise HarmonizeError("H39", what, found=found, want=want, fix=fix)

    def nothing(self, step: int, shared: Arrays) -> Arrays:
        """Return sums of the names and shapes that any site's have; their values mean nothing."""
        row = SiteTable("", np.zeros((1, self.n_features)), np.zeros((1, len(self.columns))))
        return replace(self, n_min=1).site_sums(step, row, shared)

    def check(self, data: SiteTable) -> None:
        """Refuse a table with too few rows (H02) or other columns than the settings (H11)."""
        n_rows = int(data.is_complete.sum())
        if n_rows < self.n_min:
            fix = "leave the site out, or lower n_min if so few rows may be told from their sums"
            found, want = f"{n_rows} rows with all covariates", f"{self.n_min} or more"
            raise HarmonizeError("H02", f"site {data.site}", found=found, want=want, fix=fix)
        shapes = data.features.shape[1:], data.covariates.shape
        wanted = (self.n_features,), (len(data.features), len(self.columns))
        if shapes != wanted:
            fix = "build the table with the columns of the settings"
            found, want = f"shapes {shapes}", f"{wanted}"
            raise HarmonizeError("H11", f"site {data.site}", found=found, want=want, fix=fix)

    def fitted_block(self, data: SiteTable, block: slice) -> Array:
        """Return the values of a block that take part in the fit; NaN where one does not."""
        return data.varying(block) if self.leaves_flat else data.block(block)

    def _counts(self, data: SiteTable) -> Arrays:
        covariates = data.complete_covariates
        n = len(covariates)
        sums = {name: np.zeros(self.n_features) for name in _OF_FEATURES}
        for block in data.blocks():
            values = data.block(block)
            if np.isinf(values).any():
                refuse_infinite(data.site)
            values = self.fitted_block(data, block)
            n_observed = np.isfinite(values).sum(axis=0)
            size = spread(values)
            sums["n_observed"][block] = n_observed
            sums["n_places"][block] = n_observed > 0
            sums["n_spread"][block] = n_observed * (size > 0)
            sums["feature_exponent"][block] = n_observed * _log2(size)
        size = spread(covariates)
        return {
            **sums,
            "n_sites": np.ones(1),
            "n": np.array([float(n)]),
            "n_excluded": np.array([float(len(data.covariates) - n)]),
            "n_covariate_spread": n * (size > 0).astype(np.float64),
            "covariate_exponent": n * _log2(size),
        }

    def _agreed(self, total: Arrays) -> Arrays:
        n_references = round(float(total["n_references"][0]))
        if self.reference is not None and n_references != 1:
            fix = "name a site that takes part, as it writes itself"
            found = f"{n_references} sites of that name"
            what = f"reference site {self.reference!r}"
            raise HarmonizeError("H06", what, found=found, want="one", fix=fix)
        counts = {name: np.rint(total[name]) for name in _COUNTS}
        if self.stored is not None:
            counts = {n: values + self.stored.get(n, 0.0) for n, values in counts.items()}
            return {**counts, **{name: self.stored[name] for name in _EXPONENTS}}
        # Powers of two change no digit of what travels, and fit it into a fixed-point sum.
        of_features = total["feature_exponent"] / np.maximum(1, counts["n_spread"])
        of_covariates = total["covariate_exponent"] / np.maximum(1, total["n_covariate_spread"])
        exponents = (np.rint(of_features), np.rint(of_covariates))
        return {**counts, **dict(zip(_EXPONENTS, exponents, strict=True))}

    def _cross_products(self, data: SiteTable, shared: Arrays) -> Arrays:
        covariates = _middled(data) / np.exp2(shared["covariate_exponent"])
        scale, q = np.exp2(shared["feature_exponent"]), len(self.design)
        n_observed = shared["n_observed"]
        is_whole = bool(((n_observed == shared["n"]) | (n_observed == 0)).all())
        scatter = np.zeros((1 if is_whole else self.n_features, q, q))
        if is_whole:
            scatter[0] = covariates.T @ covariates
        cross = np.zeros((self.n_features, q))
        for block in data.blocks():
            part = centred(self.fitted_block(data, block), covariates)
            cross[block] = part.deviation.T @ covariates / scale[block, None]
            if not is_whole:
                scatter[block] = part.scatter(covariates)
        return {"scatter": scatter, "cross": cross}

    def _slopes(self, total: Arrays, shared: Arrays) -> Arrays:
        scatter, cross = total["scatter"], total["cross"]
        if self.stored is not None:
            scatter, cross = scatter + self.stored["scatter"], cross + self.stored["cross"]
        n_rows = float(shared["n"][0])
        found = slopes.condition(scatter, n_rows)
        if not np.isfinite(found).any():
            most = int(shared["n_observed"].argmax()) if len(scatter) > 1 else 0
            slopes.refuse_singular(scatter[most], n_rows, self.design)
        travelled = slopes.solve(scatter, cross, np.isfinite(found))
        features, covariates = (np.exp2(shared[name]) for name in _EXPONENTS)
        beta = travelled * features / covariates[:, None]
        return {**shared, "scatter": scatter, "cross": cross, "condition": found, "beta": beta}

    def _residuals(self, data: SiteTable, shared: Arrays) -> Arrays:
        """Return intercepts and squares; zeros from all others where a site is the reference."""
        sums = {name: np.zeros(self.n_features) for name in _OF_RESIDUALS}
        if self.reference not in {None, data.site}:
            return sums
        covariates, middle = _middled(data), data.complete_covariates.mean(axis=0)
        for block in data.blocks():
            scale, beta = np.exp2(shared["feature_exponent"][block]), shared["beta"][:, block]
            part = centred(self.fitted_block(data, block), covariates)
            explained = covariates @ beta - part.offset(beta)
            residual = np.where(part.is_observed, part.deviation - explained, 0) / scale
            intercept = (part.mean - middle @ beta - part.offset(beta)) / scale
            sums["n_located"][block] = part.n
            sums["intercepts"][block] = part.n * intercept
            sums["squares"][block] = (residual**2).sum(axis=0)
            sums["whole_squares"][block] = ((part.deviation / scale) ** 2).sum(axis=0)
        return sums


def with_bends(data: SiteTable, shared: Arrays) -> SiteTable:
    """Return a table with the bent terms of smooth covariates, if their knots are known."""
    if "knots" not in shared or data.covariates.shape[1] != len(shared["knots"]):
        return data
    return replace(data, covariates=spline.expanded(data.covariates, shared["knots"]))


_OF_FEATURES = ("n_observed", "n_places", "n_spread", "feature_exponent")
_OF_RESIDUALS = ("n_located", "intercepts", "squares", "whole_squares")


def refuse_target(covariates: Iterable[str], target: str | None) -> None:
    """Refuse to keep what a model shall predict.

    Keeping a covariate writes its effect, as estimated with the answers, into every feature that is
    harmonized: a model then reads its own answers there.

    Raises:
        HarmonizeError: The target is a kept covariate (H07).
    """
    names = {name.strip().casefold() for name in covariates}
    if target is not None and target.strip().casefold() in names:
        raise HarmonizeError(
            "H07",
            f"kept covariates of a model that predicts {target}",
            found=f"{target} among them",
            want="covariates without the target",
            fix="drop it: features that keep the target's effect hold the answers, so that even "
            "noise predicts it (area under the curve 0.62 where 0.50 is true)",
        )


def _scales(total: Arrays, shared: Arrays) -> Arrays:
    scale = np.exp2(shared["feature_exponent"])
    n = np.rint(total["n_located"])
    divisor = np.maximum(1, n)
    alpha = total["intercepts"] / divisor
    variance = np.maximum(0, total["squares"]) / divisor
    size = alpha**2 + total["whole_squares"] / divisor
    is_fitted = (
        np.isfinite(shared["condition"])
        & (shared["n_spread"] > 0)
        & ((shared["n_places"] > 1) | (shared["n_sites"] < 2))
        & (n > 0)
        & (variance > FLAT**2 * size)
    )
    return {
        **shared,
        "alpha": alpha * scale,
        "sigma": np.sqrt(variance) * scale,
        "is_fitted": is_fitted.astype(np.float64),
    }


def _middled(data: SiteTable) -> Array:
    """Return covariates minus their mean at the site; exactly 0 where they do not vary there."""
    covariates = data.complete_covariates
    if not len(covariates):
        return covariates
    return np.where(spread(covariates) > 0, covariates - covariates.mean(axis=0), 0.0)


def _log2(size: Array) -> Array:
    return np.asarray(np.log2(np.where(size > 0, size, 1.0)), dtype=np.float64)


def _zeroed(sums: Arrays, *, is_zero: bool) -> Arrays:
    return {name: np.zeros_like(v) for name, v in sums.items()} if is_zero else sums
