"""Studies of images: will it work at a hospital, or a data set, that nobody has seen?

    python benchmarks/studies/images.py lgg DATA OUT [SEEDS]
    python benchmarks/studies/images.py tumour_kind DATA OUT [SEEDS]

``lgg`` leaves each hospital of TCGA-LGG out in turn (DATA/lgg-bids). ``tumour_kind`` trains on
Cheng, dealt to four made hospitals, and tests on SARTAJ (DATA/tumor2d). Copies of Cheng in SARTAJ
are left out before the test, and so are CT and the class that Cheng lacks. Images have 64 x 64
pixels: two cores need less than an hour. Stopped, the same command goes on and loses no finished
training.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fedmri.api.grid.file import StudyFile
from fedmri.api.grid.study_grid import TABLE, StudyGrid

STUDIES: dict[str, tuple[str, dict[str, Any]]] = {
    "lgg": (
        "lgg-bids",
        {
            "experiment": "lgg_tumour",
            "data.prepare.size": [64, 64],
            "simulation.protocol": "loso",
            "simulation.arms": ["federated", "local", "pooled"],
        },
    ),
    "tumour_kind": (
        "tumor2d/cheng",
        {
            "experiment": "tumour_kind",
            "data.prepare.size": [64, 64],
            "simulation.external": "tumor2d/sartaj",
            "simulation.arms": ["federated", "local", "pooled"],
            "data.check.duplicates": "exclude",
            "data.check.is_ct_excluded": True,
            "data.check.max_excluded": 1.0,
        },
    ),
}


def study_of(name: str, data: Path, n_seeds: int) -> StudyFile:
    """Return a study over the data sets of a folder."""
    source, settings = STUDIES[name]
    places = {"data.source.path": str(data / source)}
    if external := settings.get("simulation.external"):
        places["simulation.external"] = str(data / external)
    return StudyFile(name, {**settings, **places, "simulation.n_seeds": n_seeds})


def main() -> None:
    """Run a study, or go on with it."""
    name, data, out, *more = sys.argv[1:]
    file = study_of(name, Path(data).absolute(), int(more[0]) if more else 3)
    grid = StudyGrid(file, Path(out) / name)
    result = grid.run(tell=lambda line: print(line, file=sys.stderr))
    print((result.folder / TABLE).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
