"""How much of an area is lost where no count of few patients may leave a hospital.

    python benchmarks/statistics/counted_area.py

Scores of six hospitals are drawn from two normal distributions. For each number of patients of a
class and each distance of the classes, it prints the error bound of the area and the error itself,
as means over draws.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import special
from sklearn.metrics import roc_auc_score

from fedmri.evaluate.scores.federated_auc import counted, federated_auc, logit_edges, merged

N_SITES, N_BINS, N_LEAST = 6, 64, 5


def main() -> None:
    """Print a line for each number of patients and each distance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    n_repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    for n_of_class in (10, 30, 100):
        for distance in (1.5, 3.0):
            rows = [one_draw(n_of_class, distance, rng) for _ in range(n_repeats)]
            area, bound, error = np.mean(rows, axis=0)
            print(
                f"{n_of_class:4d} of each class: area {area:.2f}, "
                f"bound {bound:.3f}, error {error:.3f}"
            )


def one_draw(n_of_class: int, distance: float, rng: np.random.Generator) -> tuple[float, ...]:
    """Return the exact area of one draw, the bound of the one from counts, and its error."""
    truth = np.arange(2 * n_of_class) < n_of_class
    noise = rng.standard_normal((N_SITES, 2 * n_of_class))
    scores = special.expit(2 * (noise + distance * (truth - 0.5)))
    sites = [merged(counted(own, truth, logit_edges(N_BINS)), N_LEAST) for own in scores]
    found, exact = federated_auc(sites), roc_auc_score(np.tile(truth, N_SITES), scores.ravel())
    return exact, found.error_bound, abs(found.value - exact)


if __name__ == "__main__":
    main()
