"""Where the head is, on phantoms that differ and on real scans; and what the check says of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from fedmri.data.files.volume import load_image, load_label
from fedmri.data.preparation.head import find_head, head_mask
from fedmri.data.preparation.intensity import scale
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.scans import Scan
from fedmri.data.settings import DataConfig, PrepareConfig, SourceConfig
from fedmri.data.target import LabelMap
from fedmri.tasks.kinds.segmentation import Segmentation
from tests.conftest import program

TARGET = Segmentation("mask", ("lesion",))


def phantom(
    seed: int, shape: tuple[int, int, int], snr: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a noisy head of changing place, size and contrast, where it is, and a lesion."""
    rng = np.random.default_rng(seed)
    axes = np.stack(
        np.meshgrid(
            *[np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape], indexing="ij"
        )
    )
    centre = rng.uniform(-0.1, 0.1, 3)[:, None, None, None]
    size = rng.uniform(0.55, 0.8, 3)[:, None, None, None]
    radius = np.sqrt((((axes - centre) / size) ** 2).sum(0))
    inside = radius < 1
    signal = 100 + 20 * np.cos(5 * axes[0] + seed) + 15 * axes[1]
    signal = np.where(radius > 0.9, rng.uniform(50, 400), signal)
    lesion = ((axes - centre - 0.2) ** 2).sum(0) < 0.18**2
    signal = np.where(lesion, rng.uniform(60, 500), signal) * inside
    sigma = 100 / snr
    noisy = np.hypot(signal + rng.normal(0, sigma, shape), rng.normal(0, sigma, shape))
    return noisy.astype(np.float32), inside, lesion & inside


@pytest.mark.parametrize("snr", [8, 20, 60])
@pytest.mark.parametrize("shape", [(36, 40, 32), (48, 48, 8), (48, 52, 1)], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_heads_are_found_and_kept(seed: int, shape: tuple[int, int, int], snr: float) -> None:
    """The estimate overlaps the head by 95 %, and no lesion voxel becomes air."""
    values, inside, lesion = phantom(seed, shape, snr)
    mask = head_mask(values)
    assert 2 * (mask & inside).sum() / (mask.sum() + inside.sum()) > 0.95
    scores = scale(values, "zscore")
    assert not (scores[lesion] == 0).any()
    assert (scores[inside] == 0).mean() < 0.005


def test_head_and_air_are_apart() -> None:
    """No voxel is head and air."""
    head = find_head(phantom(0, (36, 40, 32), 20)[0])
    assert not (head.mask & head.air).any()
    assert head.kind == "air"


def test_the_head_is_found_quickly() -> None:
    """A volume of 128 x 128 x 60 takes far less than a second of the processor."""
    values, _, _ = phantom(1, (128, 128, 60), 20)
    started = time.process_time()
    head_mask(values)
    assert time.process_time() - started < 1.0


def made(folder: Path, name: str, values: np.ndarray) -> Path:
    """Write a NIfTI file."""
    path = folder / f"{name}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([4.0, 4.0, 4.0, 1.0])), path)
    return path


def bids(folder: Path) -> Path:
    """Write three subjects; the lesion of the second lies in the air."""
    rows = ["participant_id\tsite"]
    for number in (1, 2, 3):
        values, _, lesion = phantom(number, (32, 34, 30), 20)
        mask = lesion.astype(np.uint8)
        if number == 2:
            mask = np.zeros_like(mask)
            mask[:4, :4, :4] = 1
        subject = f"sub-{number:02d}"
        made(folder / subject / "anat", f"{subject}_T1w", values)
        masks = folder / "derivatives" / "manual_masks" / subject / "anat"
        made(masks, f"{subject}_mask", mask)
        rows.append(f"{subject}\tA")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize("option", [["--pictures", "drawn"], ["--pictures"]], ids=["dir", "alone"])
def test_the_check_draws_heads_in_doubt(
    option: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D46 names the subject whose label lies in the air, and a picture of it is drawn."""
    monkeypatch.chdir(tmp_path)
    data = bids(tmp_path / "data")
    target = ["target.kind=segmentation", "target.name=mask", "target.classes=[lesion]"]
    got = CliRunner().invoke(program(), ["data", "check", str(data), *option, *target])
    assert got.exit_code == 0, got.output
    lines = Path("manifest.tsv").read_text().splitlines()
    found = [line.split("\t") for line in lines if "\tD46\t" in line]
    assert [(row[1], row[4]) for row in found] == [("02", "no")]
    assert "100.0%" in found[0][5]
    folder = Path(option[1] if len(option) > 1 else "pictures")
    assert "02" in (folder / "index.html").read_text()
    assert (folder / "0001.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(folder.glob("*.png"))) == 1


def prepared_codes(folder: Path, values: np.ndarray, lesion: np.ndarray, scaling: str) -> list[str]:
    """Return the codes that preparing one scan gives."""
    image = made(folder, "image", values)
    label = made(folder, "label", lesion.astype(np.uint8))
    scan = Scan("A", "1", "", {"T1w": image}, {"mask": label})
    prepare = PrepareConfig(scaling=scaling)  # type: ignore[arg-type]  # parametrized by name
    config = DataConfig(source=SourceConfig(modalities=("T1w",)), prepare=prepare)
    got = prepare_scans([scan], TARGET, config, {"1": "train"}, folder / "cache")
    assert len(got.scans) == 1
    assert not any(finding.is_excluded for finding in got.findings)
    return [finding.code for finding in got.findings]


def test_a_clipped_lesion_is_said(tmp_path: Path) -> None:
    """The brightest hundredth is flat under ``percentile``: a bright lesion is a part of it."""
    values, _, lesion = phantom(3, (32, 34, 30), 20)
    values[lesion] += 2000
    assert prepared_codes(tmp_path / "p", values, lesion, "percentile") == ["D48"]
    assert prepared_codes(tmp_path / "z", values, lesion, "zscore") == []


def test_an_erased_label_is_said(tmp_path: Path) -> None:
    """A label that covers air has the constant of air."""
    values, _, lesion = phantom(3, (32, 34, 30), 20)
    lesion[:5, :5, :5] = True
    assert prepared_codes(tmp_path, values, lesion, "zscore") == ["D49"]


@pytest.mark.parametrize("subject", ["TCGADUA5TS", "TCGADU6400", "TCGACS4941", "TCGACS6186"])
def test_real_tumours_are_kept(subject: str) -> None:
    """No tumour voxel of real FLAIR becomes air, and the head is a plausible share."""
    root = os.environ.get("FEDMRI_TEST_DATA")
    if not root:
        pytest.skip("FEDMRI_TEST_DATA is not set")
    data = Path(root) / "lgg-bids"
    values, _ = load_image(data / f"sub-{subject}/anat/sub-{subject}_FLAIR.nii.gz")
    masks = (data / "derivatives/manual_masks" / f"sub-{subject}").glob("anat/*mask.nii.gz")
    label, _ = load_label(next(masks), LabelMap("mask", ("tumour",)))
    assert not (scale(values, "zscore")[label > 0] == 0).any()
    assert 0.2 < head_mask(values).mean() < 0.7
