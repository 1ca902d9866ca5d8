"""How well a linear probe tells the site from features: what harmonization shall make hard.

The probe is linear discriminant analysis, by ridge regression on the sites as indicators: many
permutations are fitted in one go. Its baseline is the share of the largest site, for a probe that
always names this one is right so often.

Source:
    Hastie, Buja and Tibshirani 1995, doi:10.1214/aos/1176324456 (discriminants by regression);
    Ojala and Garriga 2010, JMLR 11:1833 (permutation test of a classifier).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat.site_table import Array

Rows = NDArray[np.bool_]
N_FOLDS = 5
RIDGE = 10.0
N_AT_ONCE = 20
"""Permutations that are fitted in one go."""


@dataclass(frozen=True)
class Decodability:
    """How often the probe named a subject's site, in folds that it was not trained on.

    Attributes:
        accuracy: Share of rows whose site was named.
        balanced: Mean of that share over sites.
        largest_share: What always naming the largest site reaches.
        p_value: Share of permutations, and of the finding itself, that reach the accuracy.
        n_permutations: How many.
        n_left_out: Rows of sites that are too small to be in every fold.
        balanced_p_value: As ``p_value``, of ``balanced``.
        by_site: Name of each site, rows whose site was named, and all its rows.
    """

    accuracy: float
    balanced: float
    largest_share: float
    p_value: float
    n_permutations: int
    n_left_out: int
    balanced_p_value: float
    by_site: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class ProbeSettings:
    """The probe's settings.

    Attributes:
        n_permutations: Of subjects' sites, for the p value.
        seed: Of folds and permutations.
    """

    n_permutations: int = 200
    seed: int = 0


@dataclass(frozen=True)
class Samples:
    """Features by subject, in which the site may be hidden.

    Attributes:
        values: Shape ``(n, p)``; NaN is filled with the mean of the training rows.
        sites: Site of each row, ``(n,)``.
        subjects: Subject of each row, ``(n,)``.
        given: What the site may be told by rightly (age, sex), ``(n, q)``: its linear effect is
            taken out of the features first, as found in the training rows. No columns: nothing.
    """

    values: Array
    sites: NDArray[Any]
    subjects: NDArray[Any]
    given: Array

    def at(self, rows: Rows) -> Samples:
        """Return some rows."""
        return Samples(self.values[rows], self.sites[rows], self.subjects[rows], self.given[rows])


Refit = Callable[[Rows], Array]
"""Harmonizes all samples by what it learns of some rows: ``(n,)`` booleans in, ``(n, p)`` out."""


def decodability(
    samples: Samples, probe: ProbeSettings, refit: Refit | None = None
) -> Decodability:
    """Measure how well the site can be told, by subject: no subject is trained and tested on.

    Args:
        samples: Features of all sites.
        probe: Settings.
        refit: Harmonizes anew in each fold without its test subjects, as for subjects who come
            later. Without it the values are taken as they are; if they were harmonized with the
            test rows among the others, their means were made equal together, a fold's training
            rows then lean the other way, and the probe is right less often than by chance.

    Raises:
        HarmonizeError: Fewer than two sites have as many subjects as there are folds (H12).
    """
    kept = _large_enough(samples.sites, samples.subjects)
    names, truth = np.unique(samples.sites[kept], return_inverse=True)
    if len(names) < 2:
        want, fix = f"2 or more with {N_FOLDS} subjects", "give a table of larger sites"
        found = str(len(names))
        raise HarmonizeError("H12", "sites to tell apart", found=found, want=want, fix=fix)
    group = np.unique(samples.subjects[kept], return_inverse=True)[1]
    splits = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=probe.seed)
    folds = [
        _fold(samples, (np.flatnonzero(kept), train, test), refit)
        for train, test in splits.split(truth, truth, group)
    ]
    rng = np.random.default_rng(probe.seed)
    labels = np.stack([truth, *(_permuted(truth, group, rng) for _ in range(probe.n_permutations))])
    hits = _named(folds, labels, len(names)) == labels
    accuracy, balanced = hits.mean(axis=1), _balanced(hits, labels, len(names))
    sizes, named = np.bincount(truth), np.bincount(truth, hits[0])
    return Decodability(
        accuracy=float(accuracy[0]),
        balanced=float(balanced[0]),
        largest_share=float(sizes.max() / len(truth)),
        p_value=_share_as_good(accuracy),
        n_permutations=probe.n_permutations,
        n_left_out=int((~kept).sum()),
        balanced_p_value=_share_as_good(balanced),
        by_site=tuple(zip(map(str, names), map(int, named), map(int, sizes), strict=True)),
    )


def _share_as_good(found: Array) -> float:
    """Return the share of permutations, and of the finding itself, that reach the finding."""
    return (int((found[1:] >= found[0] - 1e-12).sum()) + 1) / len(found)


def _balanced(hits: NDArray[np.bool_], labels: NDArray[np.intp], n_sites: int) -> Array:
    """Return the mean over sites of the share that was named, for each row of labels."""
    of_sites = [labels == k for k in range(n_sites)]
    # a permutation of patients with many rows may leave a site without any
    sizes = np.maximum(1, [rows.sum(axis=1) for rows in of_sites])
    return np.asarray((np.array([(hits & rows).sum(axis=1) for rows in of_sites]) / sizes).mean(0))


Fold = tuple[Array, Array, NDArray[np.intp], NDArray[np.intp]]


def _fold(
    samples: Samples,
    rows: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]],
    refit: Refit | None,
) -> Fold:
    """Return features for training and test, prepared on training rows alone."""
    kept, train, test = rows
    values = samples.values
    if refit is not None:
        is_train = np.ones(len(values), dtype=np.bool_)
        is_train[kept[test]] = False
        values = refit(is_train)
    fill = SimpleImputer(keep_empty_features=True).fit(values[kept[train]])
    parts = [fill.transform(values[kept[some]]) for some in (train, test)]
    if samples.given.shape[1]:
        effect = make_pipeline(SimpleImputer(keep_empty_features=True), LinearRegression())
        effect.fit(samples.given[kept[train]], parts[0])
        parts = [
            part - effect.predict(samples.given[kept[some]]).reshape(part.shape)
            for part, some in zip(parts, (train, test), strict=True)
        ]
    scale = StandardScaler().fit(parts[0])
    return scale.transform(parts[0]), scale.transform(parts[1]), train, test


def _named(folds: list[Fold], labels: NDArray[np.intp], n_sites: int) -> NDArray[np.intp]:
    """Return which site the probe names, for each row of ``labels`` as the truth; same shape."""
    named = np.empty_like(labels)
    for start in range(0, len(labels), N_AT_ONCE):
        some = labels[start : start + N_AT_ONCE]
        for train_values, test_values, train, test in folds:
            indicators = np.eye(n_sites)[some[:, train]]  # (permutations, rows, sites)
            targets = indicators.transpose(1, 0, 2).reshape(len(train), -1)
            ridge = Ridge(RIDGE).fit(train_values, targets)
            fitted, tested = (
                ridge.predict(values).reshape(len(values), len(some), n_sites)
                for values in (train_values, test_values)
            )
            for k, truth in enumerate(some[:, train]):
                named[start + k, test] = _nearest(fitted[:, k], tested[:, k], truth)
    return named


def _nearest(fitted: Array, tested: Array, truth: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the site whose mean is nearest in the metric of the scatter within sites.

    The largest score does not do: of sites that lie in a row, those in the middle never have it.
    """
    n_sites = fitted.shape[1]
    counts = np.maximum(np.bincount(truth, minlength=n_sites), 0.5)  # a permutation may miss one
    means = np.eye(n_sites)[:, truth] @ fitted / counts[:, None]
    within = fitted - means[truth]
    metric = np.linalg.pinv(within.T @ within / len(truth), rcond=1e-10, hermitian=True)
    height = np.log(counts) - 0.5 * ((means @ metric) * means).sum(axis=1)
    return np.asarray((tested @ metric @ means.T + height).argmax(axis=1), dtype=np.intp)


def _permuted(
    truth: NDArray[np.intp], group: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return the sites dealt to other subjects; all rows of one subject get one site."""
    _, first = np.unique(group, return_index=True)
    return np.asarray(rng.permutation(truth[first])[group], dtype=np.intp)


def _large_enough(sites: NDArray[Any], subjects: NDArray[Any]) -> Rows:
    enough = {site for site in set(sites.tolist()) if len(set(subjects[sites == site])) >= N_FOLDS}
    return np.array([site in enough for site in sites.tolist()], dtype=np.bool_)
