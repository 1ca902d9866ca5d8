"""How well simple statistics tell slices with tumour from their neighbours without.

    python benchmarks/training/slice_statistics.py SLICES

SLICES is the folder ``slices`` that ``looking.py`` wrote. Brightness and the difference between
left and right go into a logistic model and a forest, in five folds of patients. A network that does
no better than these has not found the tumour, wherever its map lies.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HEAD, FINE, COARSE, RIM = 0.05, 2.0, 4.0, 6
"""Share of the highest value that is head, widths of smoothing, and of the skull, in pixels."""


def main() -> None:
    """Print a line for each model."""
    rows = list(_rows(Path(sys.argv[1])))
    numbers = np.array([row[0] for row in rows])
    is_tumour, patient = (np.array([row[i] for row in rows]) for i in (1, 2))
    models = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "forest": RandomForestClassifier(200, random_state=0),
    }
    print(f"{len(rows)} slices of {len({*patient})} patients")
    for name, model in models.items():
        folds = {"groups": patient, "cv": GroupKFold(5), "method": "predict_proba"}
        share = cross_val_predict(model, numbers, is_tumour, **folds)[:, 1]
        right, area = ((share > 0.5) == is_tumour).mean(), roc_auc_score(is_tumour, share)
        print(f"{name}\t{right:.3f} right\tAUC {area:.3f}", flush=True)


def _rows(slices: Path) -> Iterator[tuple[list[float], bool, str]]:
    """Yield numbers, truth and patient of each slice."""
    for table in sorted(slices.glob("sub-*/*_sessions.tsv")):
        who = table.parent.name
        with table.open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                session = row["session_id"]
                path = table.parent / session / "anat" / f"{who}_{session}_FLAIR.nii.gz"
                pixels = nib.load(path).get_fdata()[:, :, 0]  # type: ignore[attr-defined]  # a NIfTI file
                yield _statistics(pixels), row["tumour"] == "yes", who


def _statistics(pixels: np.ndarray) -> list[float]:
    head = pixels > HEAD * pixels.max()
    scaled = (pixels - pixels[head].mean()) / pixels[head].std()
    fine, coarse = (ndimage.gaussian_filter(scaled, width) for width in (FINE, COARSE))
    eroded = ndimage.binary_erosion(head, iterations=RIM)
    brain = eroded if eroded.any() else head
    inside = fine[brain]
    shares = [float((inside > level).mean()) for level in (1.0, 1.5)]
    apart = np.abs(coarse - coarse[::-1])[brain]  # the first axis runs left to right
    ends = [float(values.max()) for values in (inside, coarse[brain], apart)]
    high = [float(np.percentile(inside, q)) for q in (95, 99)]
    return [*shares, *ends, *high, float(scaled[brain].std()), float(head.mean())]


if __name__ == "__main__":
    main()
