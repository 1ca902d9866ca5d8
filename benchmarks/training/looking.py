"""Where a federated network looks, and which scans it does not know, on real data.

    python benchmarks/training/looking.py FOLDER LGG IXI

LGG is TCGA-LGG as BIDS with masks, three hospitals as sites, IXI a BIDS data set of healthy adults.
FOLDER is new, and holds all that is made.

1. From each patient of LGG come FLAIR slices through the tumour, and the nearest ones without it. A
   small network learns over the hospitals which are which. It never sees a mask. How much of its
   Grad-CAM lies in the masks of test patients is compared with the same network untrained.
2. A network learns the tumour's grade from T1w of LGG. The distance of test patients of LGG from
   its training patients is compared with the distance of IXI.
3. In the embedded data each scanner is left out once. The distance of its patients is compared with
   that of test patients whose scanners are known.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

import fedmri
from fedmri.api.result import StudyResult
from fedmri.data.preparation.prepared import read_site
from fedmri.data.synthetic.data_set import SyntheticConfig, ensure
from fedmri.evaluate.scores.ranking import auc
from fedmri.explain.judged import by_patient, mean_share
from fedmri.explain.options import ExplainOptions
from fedmri.explain.record import Explained
from fedmri.simulation.sites import StudySites
from fedmri.trained import TrainedModel

SEEDS, N_EACH, LEAST_TUMOUR, LEAST_HEAD = (0, 1, 2), 3, 40, 0.1
N_OTHERS = 25
"""Patients of IXI that are looked at."""
MADE = SyntheticConfig(n_subjects=16)
COMMON = (
    "train.batch_size=16",
    "train.n_threads=1",
    "train.device=cpu",
    "train.schedule=cosine",
    "rounds.evaluate_every=0",
    "simulation.arms=[federated]",
    "simulation.workers=1",
    "simulation.n_pictures=0",
)
TUMOUR = (
    *COMMON,
    "data.source.modalities=[FLAIR]",
    "data.source.sites=[CS,DU,HT]",
    "data.prepare.dimension=2d",
    "data.prepare.spacing_mm=0",
    "data.prepare.shape=[0,0,0]",
    "data.prepare.size=[64,64]",
    "data.augment.affine=0.5",
    "data.augment.gamma=0.5",
    "model.width=16",
    "train.lr=2e-3",
    "rounds.n_rounds=40",
)
GRADE = (
    *COMMON,
    "data.source.modalities=[T1w]",
    "data.source.sites=[CS,DU,HT]",
    "data.prepare.dimension=2d",
    "data.prepare.spacing_mm=0",
    "data.prepare.shape=[0,0,0]",
    "data.prepare.size=[64,64]",
    "data.prepare.n_slices=8",
    "model.width=16",
    "rounds.n_rounds=5",
)
SCANNER = (
    *COMMON,
    "experiment=smoke",
    "data.prepare.spacing_mm=6",
    "data.prepare.shape=[32,40,32]",
    "rounds.n_rounds=5",
)


def main() -> None:
    """Print a line for each comparison."""
    folder, lgg, ixi = map(Path, sys.argv[1:])
    slices = tumour_slices(lgg, folder / "slices")
    for seed in SEEDS:
        looked_at(folder, slices, seed)
    print("who is not known\tAUC by embedding\tAUC by look\tpatients")
    other_data(folder, lgg, ixi)
    for site in range(1, MADE.n_sites + 1):
        other_scanner(folder, f"site{site:02d}")


def tumour_slices(lgg: Path, out: Path) -> Path:
    """Write single slices of FLAIR as sessions, with their masks; return the folder."""
    rows = _rows(lgg)
    for row in rows:
        who = row["participant_id"]
        path = next((lgg / who).rglob("*_FLAIR.nii.gz"), None)
        if path is None:
            continue
        image = nib.Nifti1Image.from_filename(path)
        mask = nib.Nifti1Image.from_filename(
            next((lgg / "derivatives").rglob(f"{who}*_mask.nii.gz"))
        )
        voxels, tumour = np.asarray(image.dataobj), np.asarray(mask.dataobj) > 0
        lines = ["session_id\ttumour"]
        for index, kind in _chosen(voxels, tumour):
            session = f"ses-{index:02d}"
            stem = f"{who}_{session}"
            _write(out / who / session / "anat" / f"{stem}_FLAIR.nii.gz", voxels, image, index)
            if kind == "yes":
                place = out / "derivatives" / "masks" / who / session / "anat"
                _write(place / f"{stem}_mask.nii.gz", tumour.astype(np.uint8), image, index)
            lines.append(f"{session}\t{kind}")
        if len(lines) > 1:
            (out / who / f"{who}_sessions.tsv").write_text("\n".join([*lines, ""]))
    _write_rows(out, [row for row in rows if (out / row["participant_id"]).is_dir()])
    return out


def _chosen(voxels: np.ndarray, tumour: np.ndarray) -> Iterator[tuple[int, str]]:
    """Yield slices at the quarters of the tumour, and as many of the nearest without it.

    At its ends a tumour fills 1 % of a slice, and nothing that was tried tells such a slice from
    its neighbours. One slice is left out between those with and without it.
    """
    area, head = tumour.sum((0, 1)), (voxels > 0).mean((0, 1))
    inside = np.flatnonzero(area >= LEAST_TUMOUR)
    if not len(inside):
        return
    places = np.unique(np.linspace(0, len(inside) - 1, N_EACH + 2)[1:-1].round().astype(int))
    for place in places:
        yield int(inside[place]), "yes"
    there = np.flatnonzero(area > 0)
    apart = np.abs(np.arange(len(area))[:, None] - there).min(1)
    without = np.flatnonzero((apart > 1) & (head >= LEAST_HEAD))
    for index in sorted(without, key=lambda i: (apart[i], i))[: len(places)]:
        yield int(index), "no"


def _write(path: Path, voxels: np.ndarray, like: nib.Nifti1Image, index: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels[:, :, index : index + 1], like.affine), path)


def looked_at(folder: Path, slices: Path, seed: int) -> None:
    """Train on the slices with one seed, and print where the network looks."""
    target = fedmri.Classification("tumour", ("no", "yes"))
    settings = [*TUMOUR, f"seed={seed}", *_places(folder, f"tumour-{seed}")]
    result = fedmri.Study(slices, target=target, model="cnn5", settings=settings).run()
    tested = _part(slices, folder / f"tested-{seed}", _patients(result, "test"))
    masks = slices / "derivatives"
    asked = ExplainOptions(methods=("gradcam",), explained_class="yes", masks=masks)
    found = _explained(result.model(seed=seed), tested, asked)
    by_who: dict[str, list[float]] = {}
    for one in found.scans:
        by_who.setdefault(one.input.scan.subject, []).append(1 - one.risk)
    right = mean_share(by_patient(by_who))
    cam = found.summary["methods"]["gradcam"]
    named = ("share_in_mask", "share_in_mask_untrained", "gain_over_untrained")
    shares = {name: _interval(*_ends(cam[name])) for name in named}
    shares["chance"] = f"{found.summary['chance']['value']:.3f}"
    shares["slices right"] = _interval(right.value, right.low, right.high)
    shares["patients"] = str(len(by_who))
    print(f"seed {seed}: {json.dumps(shares)}; maps {cam['under_random_weights']}", flush=True)


def other_data(folder: Path, lgg: Path, ixi: Path) -> None:
    """Print whether the distance tells IXI from LGG."""
    target = fedmri.Classification("grade_code", ("1", "2"))
    settings = [*GRADE, *_places(folder, "grade")]
    result = fedmri.Study(lgg, target=target, model="cnn5", settings=settings).run()
    reference, known = (
        _part(lgg, folder / f"lgg-{side}", _patients(result, side), "_T1w")
        for side in ("train", "test")
    )
    every = sorted(row["participant_id"] for row in _rows(ixi))
    others = _part(ixi, folder / "ixi", every[:: max(1, len(every) // N_OTHERS)], "_T1w")
    _told("IXI, by a network of LGG", result, reference, known, others)


def other_scanner(folder: Path, site: str) -> None:
    """Print whether the distance tells a scanner that training never saw."""
    data = ensure(folder / "cache", MADE, 0)
    sites = sorted({row["site"] for row in _rows(data)} - {site})
    settings = [*SCANNER, f"data.source.sites=[{','.join(sites)}]", *_places(folder, f"no-{site}")]
    result = fedmri.Study(data, settings=settings).run()
    reference, known = (
        _part(data, folder / f"{site}-{side}", _patients(result, side), "_T1w")
        for side in ("train", "test")
    )
    own = [row["participant_id"] for row in _rows(data) if row["site"] == site]
    others = _part(data, folder / f"{site}-own", own, "_T1w")
    _told(f"{site} of the embedded data", result, reference, known, others)


def _told(what: str, result: StudyResult, reference: Path, known: Path, others: Path) -> None:
    model, asked = result.model(), ExplainOptions(methods=(), reference=reference)
    found = [_explained(model, part, asked).scans for part in (known, others)]
    is_other = np.repeat([False, True], [len(part) for part in found])
    scans = [one for part in found for one in part]
    by_embedding, by_look = [o.distance for o in scans], [o.look_distance for o in scans]
    shown = [_area(distances, is_other) for distances in (by_embedding, by_look)]
    n = f"{len(found[0])} known, {len(found[1])} not"
    print("\t".join([what, *shown, n]), flush=True)


def _area(distances: Sequence[float], is_other: np.ndarray) -> str:
    area = auc(np.array(distances), is_other)
    return _interval(area.value, area.low, area.high)


def _explained(model: TrainedModel, scans: Path, options: ExplainOptions) -> Explained:
    return model.explain(scans, out=scans.with_name(f"{scans.name}-explained"), options=options)


def _places(folder: Path, name: str) -> list[str]:
    places = {"cache": folder / "cache", "runs": folder / "runs"}
    return [f"name={name}", *(f"simulation.{key}={path}" for key, path in places.items())]


def _patients(result: StudyResult, side: str) -> list[str]:
    """Return the patients on a side of the split, at all sites."""
    sites = StudySites.read(result.folder / "prepared" / "sites.json").sites.values()
    found = {scan.subject for path in sites for scan in read_site(path).scans if scan.split == side}
    return [f"sub-{subject}" for subject in sorted(found)]


def _part(data: Path, out: Path, names: Sequence[str], ending: str = "") -> Path:
    """Copy some patients of a data set, and of their images those with an ending."""
    for name in names:
        ignored = shutil.ignore_patterns("*.json") if ending else None
        shutil.copytree(data / name, out / name, ignore=ignored)
        for path in (out / name).rglob("*.nii.gz"):
            if not path.name.endswith(f"{ending}.nii.gz") or (ending and "_ce-" in path.name):
                path.unlink()
    _write_rows(out, [row for row in _rows(data) if row["participant_id"] in {*names}])
    return out


def _rows(data: Path) -> list[dict[str, str]]:
    with (data / "participants.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _write_rows(out: Path, rows: Iterable[dict[str, str]]) -> None:
    said = {"Name": out.name, "BIDSVersion": "1.9.0"}
    (out / "dataset_description.json").write_text(json.dumps(said))
    with (out / "participants.tsv").open("w", encoding="utf-8") as file:
        every = list(rows)
        writer = csv.DictWriter(file, list(every[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(every)


def _ends(shown: Mapping[str, float | None]) -> Iterator[float]:
    for key in ("value", "low", "high"):
        found = shown[key]
        yield math.nan if found is None else found


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
