"""The embedded example data: hospitals from a brain atlas, to try everything on."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

MADE_OF = Path("code") / "fedmri-example.json"
"""File of a data set that says what it was made of, where BIDS has programs and their settings."""


def example_data(
    folder: str | os.PathLike[str],
    *,
    sites: int = 5,
    subjects: int = 24,
    seed: int = 0,
    spacing_mm: float = 3.0,
) -> Path:
    """Write the embedded example data, a BIDS folder with T1w, FLAIR, lesion masks and ages.

    A folder that the same call has filled before is taken as it is.

    Args:
        folder: Folder to fill; missing or empty.
        sites: Hospitals; each has its own scanner, ages and lesions.
        subjects: Patients of a hospital on average.
        seed: Another seed makes other patients.
        spacing_mm: Finest voxel size.

    Returns:
        The folder.

    Raises:
        ConfigError: A number is out of range (C01).
        DataError: The folder holds something else (D70).
    """
    from fedmri.data.synthetic.data_set import VERSION, SyntheticConfig, generate

    config = SyntheticConfig(sites, subjects, spacing_mm)
    path = Path(folder).expanduser()
    said = json.dumps({"version": VERSION, "seed": seed, **asdict(config)})
    is_there = (path / MADE_OF).exists() and (path / MADE_OF).read_text("utf-8") == said
    if not is_there:
        generate(path, config, seed)
        (path / MADE_OF).parent.mkdir()
        (path / MADE_OF).write_text(said, "utf-8")  # last: a folder with it is complete
    return path
