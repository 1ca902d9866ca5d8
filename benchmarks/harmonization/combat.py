"""ComBat with millions of features, streamed: seconds and the most memory it took.

Sites lie on disk as float32, as voxels do; the harmonized features are written to disk as well.

    python benchmarks/harmonization/combat.py [n_features] [n_sites] [n_subjects]
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Literal

import numpy as np

from fedmri.harmonize.combat.combat_site import apply, fit_site
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.combat.site_table import SiteTable
from fedmri.harmonize.sums import run

BLOCK = 100_000


def main() -> None:
    """Make sites, fit them, harmonize each; print what it cost."""
    given = [int(text) for text in sys.argv[1:]]
    n_features, n_sites, n_subjects = (*given, *(2_000_000, 5, 40)[len(given) :])
    with tempfile.TemporaryDirectory() as name:
        tables = [made(Path(name), site, n_features, n_subjects) for site in range(n_sites)]
        watch = Watch()
        stage = ComBat(n_features, ("age", "sex"))
        started = time.perf_counter()
        parameters = run(stage, tables)
        fitted = time.perf_counter()
        n_bytes = 0
        for table in tables:
            effect = fit_site(stage, parameters, table)
            out = opened(Path(name) / "out.npy", table.features.shape, "w+")
            apply(parameters, effect, table, out)
            n_bytes += table.features.nbytes
            out.flush()
        done = time.perf_counter()
    print(f"{n_features:,} features, {n_sites} sites of {n_subjects}: {n_bytes / 1e6:,.0f} MB")
    print(f"fit {fitted - started:.1f} s, harmonize {done - fitted:.1f} s")
    vector = n_features * 8 / 2**20
    most = watch.peak_mb - watch.at_start_mb
    print(f"most memory {most:,.0f} MB, which is {most / vector:.0f} numbers a feature")


def made(folder: Path, site: int, n_features: int, n_subjects: int) -> SiteTable:
    """Write a site's features block by block, and open them."""
    rng = np.random.default_rng(site)
    covariates = np.column_stack(
        [rng.uniform(20, 80, n_subjects), rng.integers(0, 2, n_subjects)]
    ).astype(np.float64)
    path = folder / f"{site}.npy"
    features = opened(path, (n_subjects, n_features), "w+")
    for start in range(0, n_features, BLOCK):
        width = min(BLOCK, n_features - start)
        noise = rng.standard_normal((n_subjects, width), dtype=np.float32)
        features[:, start : start + width] = noise + site + covariates[:, :1] / 50
    features.flush()
    return SiteTable(f"site{site}", opened(path, (n_subjects, n_features), "r"), covariates)


def opened(path: Path, shape: tuple[int, ...], mode: Literal["r", "w+"]) -> np.memmap:
    """Map a file of float32 to memory."""
    return np.memmap(path, dtype=np.float32, mode=mode, shape=shape)


class Watch:
    """Looks every 20 ms at the memory that is the process's own.

    Pages of mapped files are not counted: the system takes them back whenever it likes.
    """

    def __init__(self) -> None:
        self.at_start_mb = self.peak_mb = own_mb()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, own_mb())
            time.sleep(0.02)


def own_mb() -> float:
    """Return the anonymous memory of this process, in MB."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("RssAnon:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
