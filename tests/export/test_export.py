"""Exports give the outputs of the model, and say what they cost and change."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from monai.bundle.scripts import run, verify_metadata, verify_net_in_out

import fedmri.export.exporting as exporting
from fedmri.api.export import export_model
from fedmri.errors import ConfigError, UsageError
from fedmri.export.bundle import read_bundle
from fedmri.export.called import Called
from fedmri.export.exporting import ExportOptions, Format, export
from fedmri.export.measured import GATE_BYTES, measured
from fedmri.export.onnx_file import read_onnx
from fedmri.export.program import read_program
from fedmri.export.subject import subject_of
from fedmri.trained.model import TrainedModel
from tests.trained.test_commands import Fedmri, fedmri  # noqa: F401  # a fixture
from tests.untrained import untrained, written

NAMES = ("onnx", "torch", "monai", "int8", "pruned")
MANDATORY = (
    *("version", "monai_version", "pytorch_version", "numpy_version", "task", "description"),
    *("authors", "copyright", "network_data_format", "required_packages_version"),
)
"""What the specification of MONAI's bundles calls mandatory, in the words of MONAI 1.6."""


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    """Return a small model of volumes."""
    return untrained("kind")


@pytest.fixture(scope="module")
def out(model: TrainedModel, hospitals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with every export of it, scored."""
    folder = tmp_path_factory.mktemp("exports") / "out"
    export(model.file, folder, ExportOptions(NAMES, data=hospitals))
    return folder


def report(out: Path) -> dict[str, dict[str, Any]]:
    """Return what is said of each export."""
    said = json.loads((out / exporting.REPORT).read_text(encoding="utf-8"))
    return {one["format"]: one for one in said["exports"]}


READERS = {
    "model.onnx": read_onnx,
    "model.pt2": read_program,
    "bundle": read_bundle,
}


@pytest.mark.parametrize("name", READERS)
def test_an_export_of_floats_gives_the_outputs_of_the_model(
    name: str, model: TrainedModel, out: Path
) -> None:
    """For one image and for several, none of which was seen at the export."""
    exported = READERS[name](out / name)
    for n_images in (1, 3):
        images = torch.randn(n_images, 1, 16, 16, 16, generator=torch.Generator().manual_seed(9))
        with torch.no_grad():
            difference = (exported(images) - model.network(images)).abs().max()
        assert float(difference) < 1e-5


def test_what_is_said_of_an_export_is_so(model: TrainedModel, out: Path) -> None:
    """Sizes are those of the files, eight bits make it smaller, and half of the weights are 0."""
    said = report(out)
    assert tuple(said) == NAMES
    for one in said.values():
        path = out / one["path"]
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        assert one["n_bytes"] == sum(file.stat().st_size for file in files)
        assert one["is_small"] == (one["n_bytes"] <= GATE_BYTES)
        assert one["latency_ms"] > 0
        assert one["latency_ratio"] > 0
    assert said["int8"]["n_bytes"] < 0.6 * said["onnx"]["n_bytes"]
    assert said["pruned"]["n_bytes_packed"] < 0.8 * said["onnx"]["n_bytes_packed"]
    assert max(said[name]["difference"] for name in NAMES[:3]) < 1e-5
    assert min(said[name]["difference"] for name in NAMES[3:]) > 1e-5
    every = [
        onnx.numpy_helper.to_array(value)
        for value in onnx.load(out / "model-pruned.onnx").graph.initializer
    ]
    weights = np.concatenate([v.ravel() for v in every if v.ndim > 1 and v.dtype == np.float32])
    assert np.mean(weights == 0) == pytest.approx(0.5, abs=0.02)


def test_the_metric_of_an_export_is_beside_that_of_the_model(
    model: TrainedModel, hospitals: Path, out: Path
) -> None:
    """Both are those of `fedmri score`; an export of floats changes nothing."""
    summary = model.score(hospitals).summary
    own = summary.rows[0].overall[summary.metric].value
    for name, one in report(out).items():
        assert one["metric"] == summary.metric
        assert one["score_before"] == own
        if name in NAMES[:3]:
            assert one["score_after"] == own


def test_the_score_is_that_of_the_export_and_not_of_the_model(
    model: TrainedModel, hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that calls everything one class is scored as that."""
    constant = Called(lambda image: torch.tensor([[9.0, 0.0, 0.0]]).repeat(len(image), 1))
    form = Format(touched, lambda _: constant, is_exact=False)
    monkeypatch.setattr(exporting, "formats", lambda _: {"onnx": form})
    [one] = export(model.file, tmp_path / "out", ExportOptions(data=hospitals))
    assert one.score_after == pytest.approx(1 / 3)


def touched(_: object, folder: Path) -> Path:
    """Write an empty file in the place of an export."""
    (folder / "model").touch()
    return folder / "model"


def test_an_export_with_other_outputs_is_refused(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A difference above the limit ends it, and no file of it stays."""
    form = Format(touched, lambda _: Called(lambda image: model.network(image) + 2e-4))
    monkeypatch.setattr(exporting, "formats", lambda _: {"onnx": form})
    with pytest.raises(UsageError, match=r"difference of 0\.0002.*at most 0\.0001.*\[U75\]"):
        export(model.file, tmp_path / "out", ExportOptions())
    assert not (tmp_path / "out").exists()


def busy(image: torch.Tensor, n_times: int) -> torch.Tensor:
    """Return an image after some work."""
    for _ in range(n_times * 50_000):
        pass
    return image


def test_times_are_those_of_the_export_and_of_the_model(
    model: TrainedModel, tmp_path: Path
) -> None:
    """A network that works three times as much takes about three times as long."""
    once = Called(lambda image: busy(image, 1))
    thrice = Called(lambda image: busy(image, 3))
    subject = replace(subject_of(model.file, 0), network=once)
    (tmp_path / "file").write_bytes(b"0" * 100)
    found = measured("thrice", tmp_path / "file", thrice, subject)
    assert 2 < found.latency_ratio < 5
    assert 1 / 5 < found.throughput_ratio < 1 / 2
    assert (found.n_bytes, found.difference) == (100, 0)


def test_monai_accepts_the_bundle_and_runs_it(
    model: TrainedModel, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metadata and shapes are as MONAI wants them, and a run gives the model's outputs."""
    bundle = tmp_path / "bundle"
    shutil.copytree(out / "bundle", bundle)
    metadata, config = bundle / "configs/metadata.json", bundle / "configs/inference.json"
    schema = tmp_path / "schema.json"  # the one that the file names lies on a network
    schema.write_text(json.dumps({"type": "object", "required": MANDATORY}))
    monkeypatch.chdir(bundle)
    image = np.random.default_rng(3).standard_normal((1, 16, 16, 16)).astype(np.float32)
    np.save(bundle / "image.npy", image)
    files: dict[str, Any] = {"meta_file": str(metadata), "config_file": str(config)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of hashes, of eval and of TorchScript, all in MONAI
        verify_metadata(meta_file=str(metadata), filepath=str(schema))
        verify_net_in_out("network_def", device="cpu", **files)
        run("run", bundle_root=str(bundle), **files)
    with torch.no_grad():
        own = model.network(torch.from_numpy(image)[None])[0]
    assert np.allclose(np.load(bundle / "output.npy"), own, atol=1e-5)


def test_a_model_of_slices_and_masks_is_exported_too(tmp_path: Path) -> None:
    """Pictures in two dimensions, and an output for each pixel."""
    shapes = ("data.prepare.dimension=2d", "data.prepare.size=[16,16]")
    more = (*shapes, "data.prepare.shape=[0,0,0]", "data.prepare.spacing_mm=0")
    table = export_model(untrained("mask", *more), tmp_path / "out", ["torch"])
    assert table["difference"].max() < 1e-5
    said = json.loads((tmp_path / "out/export.json").read_text())
    assert said["input"]["shape"] == ["batch", 1, 16, 16]
    assert said["output"]["channels"] == ["background", "lesion"]


def test_a_package_that_is_absent_is_named(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what to install, and nothing is written."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"no onnxruntime.*fedmri\[export\].*\[C05\]"):
        export(model.file, tmp_path / "out", ExportOptions())
    assert not (tmp_path / "out").exists()


def test_the_command_prints_a_table_and_refuses_what_is_no_format(
    model: TrainedModel, tmp_path: Path, fedmri: Fedmri  # noqa: F811
) -> None:  # fmt: skip
    """A row for each export; a wrong name is one line."""
    path = written(model, tmp_path / "model.safetensors")
    code, text, _ = fedmri("export", path, "--format", "monai", "--out", "here")
    assert code == 0
    assert "bundle" in text
    assert "Exports, with what a program must know" in text
    code, _, err = fedmri("export", path, "--format", "tflite")
    assert code == 2
    assert "found tflite, want some of onnx, torch, monai, int8, pruned" in err
