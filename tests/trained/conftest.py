"""Tiny models that were trained once, and scans that their hospitals never had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fedmri.config import as_yaml, load
from fedmri.simulation.study import Study, refuse_failed, run_study
from fedmri.trained.model import TrainedModel
from tests.conftest import TINY

MASK = (
    *("experiment=lesion_mask", "model.width=4", "data.prepare.spacing_mm=12"),
    *("data.prepare.shape=[16,16,16]", "rounds.n_rounds=1", "train.local_epochs=1"),
    *("simulation.workers=1", "simulation.n_pictures=0", "train.device=cpu"),
)
AGE = ("experiment=age", "model.width=4", *MASK[2:])
KIND = (*TINY, "rounds.n_rounds=1", "simulation.n_pictures=0")

SETTINGS = {
    "mask": MASK,
    "own": (*MASK, "data.prepare.spacing_mm=0", "data.prepare.shape=[32,32,32]"),
    "slices": (
        *(*MASK, "data.prepare.dimension=2d", "data.prepare.size=[16,16]", "harmonize=nyul"),
        *("data.prepare.shape=[0,0,0]", "data.prepare.spacing_mm=0"),
    ),
    "nyul": (*MASK, "harmonize=nyul"),
    "age": AGE,
    "kind": KIND,
    "fedbn": (*KIND, "strategy=fedbn", "model.norm=batch"),
    "fedper": (*KIND, "strategy=fedper"),
    "ditto": (*KIND, "strategy=ditto"),
    "combat": (*KIND, "harmonize=combat", "stages.combat.n_min=2"),
}


@dataclass(frozen=True)
class Run:
    """A finished simulation and the model of its federated arm."""

    folder: Path
    path: Path

    @property
    def model(self) -> TrainedModel:
        """The model, opened anew."""
        return TrainedModel.open(self.path)


Train = Callable[..., Run]


@pytest.fixture(scope="session")
def train(hospitals: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Return what gives a trained model by its name, trained once a session."""
    done: dict[str, Run] = {}

    def run(name: str, *more: str) -> Run:
        key = " ".join([name, *more])
        if key not in done:
            folder = tmp_path_factory.mktemp(name)
            paths = [f"data.source.path={hospitals}", f"simulation.cache={cache}"]
            arms = "simulation.arms=[federated]"
            experiment = load([*SETTINGS[name], *paths, arms, *more])
            (folder / "config.yaml").write_text(as_yaml(experiment), encoding="utf-8")
            parts = (experiment.plan, experiment.partition, experiment.simulation)
            refuse_failed(run_study(Study(*parts, folder, "fedmri"), lambda _: None), folder)
            done[key] = Run(folder, folder / "arms/federated/seed-0/model.safetensors")
        return done[key]

    return run


def images(folder: Path, suffix: str) -> list[Path]:
    """Return the images of a data set of one modality, in order."""
    return sorted(folder.glob(f"sub-*/anat/*_{suffix}.nii.gz"))


def labels(path: Path) -> nib.Nifti1Image:
    """Return an image or label map as nibabel has it."""
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return image


def turned(path: Path, target: Path, codes: str, affine: np.ndarray | None = None) -> Path:
    """Write an image again with its axes in another order, or placed by another affine."""
    image = labels(path)
    start = nib.io_orientation(image.affine)
    change = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(tuple(codes)))
    other = image.as_reoriented(change)
    values = np.asarray(other.dataobj)
    placed = other.affine if affine is None else affine @ other.affine
    made = nib.Nifti1Image(values, placed)
    made.set_sform(placed, code=1)
    made.set_qform(placed, code=1)
    target.parent.mkdir(parents=True, exist_ok=True)
    nib.save(made, target)
    return target
