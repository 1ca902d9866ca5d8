"""What scaling loses of heads and labels: real scans, pictures, and phantoms made hard.

A voxel is lost when it has the constant of air after scaling. Visible tissue is what exceeds a
tenth of the 99th percentile, whatever the head is taken for.

    FEDMRI_TEST_DATA=/folder/of/data/sets python benchmarks/training/head.py [set ...]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedmri.data.files.volume import load_image, load_label
from fedmri.data.preparation.head import head_mask
from fedmri.data.preparation.intensity import scale
from fedmri.data.synthetic.data_set import SyntheticConfig, generate
from fedmri.data.target import LabelMap

N_PICTURES = 400
SHOWN = 3
MASK = LabelMap("mask", ("lesion",))


@dataclass(frozen=True)
class Case:
    """An image, the label on it (or None), and where its tissue is (None: what is visible)."""

    name: str
    values: np.ndarray
    label: np.ndarray | None = None
    tissue: np.ndarray | None = None


@dataclass(frozen=True)
class Lost:
    """Shares of an image: label and tissue that became air, and the estimated head."""

    name: str
    label: float
    tissue: float
    head: float
    air: float
    seconds: float


def main() -> None:
    """Print a line for each set, and the worst images of it."""
    sets = SETS if len(sys.argv) == 1 else {name: SETS[name] for name in sys.argv[1:]}
    print(f"{'':18s}{'n':>5s}{'label lost: most':>18s}{'> 0':>5s}{'> 1 %':>6s}", end="")
    print(f"{'tissue lost: mean':>19s}{'> 10 %':>7s}{'> 30 %':>7s}", end="")
    print(f"{'head':>14s}{'const.':>8s}{'s':>6s}")
    for name, cases in sets.items():
        rows = [lost(case) for case in cases()]
        if rows:
            print_rows(name, rows)


def print_rows(name: str, rows: list[Lost]) -> None:
    """Print a set's line and its worst images."""
    label, tissue = (np.array([getattr(r, key) for r in rows]) for key in ("label", "tissue"))
    head = np.array([row.head for row in rows])
    air = np.mean([row.air for row in rows])
    seconds = max(row.seconds for row in rows)
    print(f"{name:18s}{len(rows):5d}", end="")
    if np.isnan(label).all():
        print(f"{'-':>18s}{'-':>5s}{'-':>6s}", end="")
    else:
        print(f"{np.nanmax(label):18.4f}{(label > 0).sum():5d}{(label > 0.01).sum():6d}", end="")
    print(f"{tissue.mean():19.4f}{(tissue > 0.1).sum():7d}{(tissue > 0.3).sum():7d}", end="")
    print(f"{head.min():7.2f}-{head.max():.2f}{air:11.2f}{seconds:6.2f}")
    worst = sorted(rows, key=lambda row: -max(np.nan_to_num(row.label), row.tissue))
    for row in worst[:SHOWN]:
        if max(np.nan_to_num(row.label), row.tissue) > 0:
            print(f"    {row.name}: label {row.label:.4f}, tissue {row.tissue:.4f}", end="")
            print(f", head {row.head:.2f}")


def lost(case: Case) -> Lost:
    """Scale an image and count what became air."""
    values = case.values if case.values.ndim == 3 else case.values[..., None]
    values = values.astype(np.float32)
    top = np.percentile(values, 99)
    tissue = values > 0.1 * top if case.tissue is None else case.tissue.reshape(values.shape)
    started = time.perf_counter()
    head = head_mask(values)
    seconds = time.perf_counter() - started
    is_air = scale(values, "zscore") == 0
    label = np.nan
    if case.label is not None and case.label.any():
        label = float(is_air[case.label.reshape(values.shape) > 0].mean())
    return Lost(
        case.name,
        label,
        float(is_air[tissue].mean()),
        float(head.mean()),
        float(is_air.mean()),
        seconds,
    )


def folder(name: str) -> Path:
    """Return the folder of a data set."""
    return Path(os.environ["FEDMRI_TEST_DATA"]) / name


def bids(name: str, ending: str) -> Iterator[Case]:
    """Yield the scans of a modality with their masks."""
    root = folder(name)
    for path in sorted(root.glob(f"sub-*/anat/{ending}")):
        subject = path.parents[1].name
        masks = sorted((root / "derivatives/manual_masks").glob(f"{subject}/anat/*mask.nii.gz"))
        label = load_label(masks[0], MASK)[0] if masks else None
        yield Case(subject, load_image(path)[0], label)


def pictures(name: str) -> Iterator[Case]:
    """Yield pictures of all classes, evenly chosen."""
    paths = sorted(path for path in folder(name).glob("*/*") if path.suffix in (".jpg", ".png"))
    for path in paths[:: max(1, len(paths) // N_PICTURES)][:N_PICTURES]:
        yield Case(f"{path.parent.name}/{path.name}", load_image(path)[0])


def embedded() -> Iterator[Case]:
    """Yield the T1w of the embedded data set."""
    with tempfile.TemporaryDirectory() as place:
        generate(Path(place), SyntheticConfig(), 0)
        for path in sorted(Path(place).glob("sub-*/**/*T1w.nii.gz")):
            labels = sorted(
                (Path(place) / "derivatives").glob(f"**/{path.parents[1].name}*_mask*.nii.gz")
            )
            label = load_label(labels[0], MASK)[0] if labels else None
            yield Case(path.parents[1].name, load_image(path)[0], label)


def phantoms() -> Iterator[Case]:
    """Yield a head with a lesion as scanners, coils and other programs make it."""
    image, label, inside, shell, axes = phantom()
    inner = image[inside]
    scores = (image - inner.mean()) / inner.std()
    made = {
        "as is": image,
        "coil x4": image * np.exp(0.7 * axes[1]),
        "coil x10": image * np.exp(1.15 * axes[1]),
        "z-scored, air 0": np.where(inside, scores, 0),
        "z-scored, air low": np.where(inside, scores, scores[inside].min() - 0.01),
        "z-scored whole": scores,
        "stripped": np.where(inside, image, 0),
        "offset": image + 1000,
        "negative": image - 2000,
        "bright fat": np.where(shell, 4000, image),
        "bright lesion": np.where(label > 0, 5000, image),
        "no air": image[10:38, 10:44, 8:34],
        "uint8": (image / image.max() * 255).round(),
        "ground 40": np.where(inside, image, 0) + 40,
    }
    for name, values in made.items():
        crop = values.shape != image.shape
        cut = (slice(10, 38), slice(10, 44), slice(8, 34)) if crop else ()
        yield Case(name, values, label[cut], inside[cut])


def phantom() -> tuple[np.ndarray, ...]:
    """Return image, lesion, head, scalp, and coordinates from -1 to 1."""
    shape = (48, 54, 42)
    rng = np.random.default_rng(0)
    axes = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((axes[0] / 0.8) ** 2 + (axes[1] / 0.85) ** 2 + (axes[2] / 0.8) ** 2)
    inside, shell = radius < 1, (radius < 1) & (radius > 0.92)
    image = np.where(inside, 400 + 150 * np.cos(3 * axes[1]) + 80 * axes[2], 5.0)
    centre = np.array([0.3, 0.1, 0.1])[:, None, None, None]
    label = ((axes - centre) ** 2).sum(0) < 0.22**2
    image = np.where(label, 900, image)
    noisy = np.hypot(image + rng.normal(0, 12, shape), rng.normal(0, 12, shape))
    return noisy, label, inside, shell, axes


SETS = {
    "phantoms": phantoms,
    "lgg FLAIR": lambda: bids("lgg-bids", "*_FLAIR.nii.gz"),
    "lgg T1w": lambda: bids("lgg-bids", "sub-TCGA??????_T1w.nii.gz"),
    "lgg ce-T1w": lambda: bids("lgg-bids", "*ce-gadolinium_T1w.nii.gz"),
    "ixi T1w": lambda: bids("ixi-hh-bids", "*_T1w.nii.gz"),
    "br35h": lambda: pictures("tumor2d/br35h"),
    "cheng": lambda: pictures("tumor2d/cheng"),
    "sartaj": lambda: pictures("tumor2d/sartaj"),
    "embedded": embedded,
}

if __name__ == "__main__":
    main()
