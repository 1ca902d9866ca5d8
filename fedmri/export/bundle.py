"""A model as a MONAI bundle: weights, a TorchScript program, metadata, and how it is run."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fedmri.export.called import Called
from fedmri.export.capture import quiet_exporters
from fedmri.export.subject import Subject
from fedmri.training.looking import OVERLAP

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
PROGRAM = "models/model.ts"


def write_bundle(subject: Subject, folder: Path) -> Path:
    """Write the folder ``bundle``.

    Source:
        MONAI Bundle Specification, docs.monai.io.
    """
    root = folder / "bundle"
    for name in ("configs", "models", "docs"):
        (root / name).mkdir(parents=True)
    _json(root / "configs/metadata.json", _metadata(subject))
    _json(root / "configs/inference.json", _inference(subject))
    (root / "docs/README.md").write_text(_readme(subject), encoding="utf-8")
    torch.save(dict(subject.file.weights), root / "models/model.pt")
    with quiet_exporters(), torch.no_grad():
        traced = torch.jit.trace(subject.network, subject.images[:2])  # type: ignore[no-untyped-call]
        traced.save(root / PROGRAM)
    return root


def read_bundle(root: Path) -> Called:
    """Return a bundle's program as a network."""
    with quiet_exporters():
        module = torch.jit.load(root / PROGRAM).eval()  # type: ignore[no-untyped-call]
    return Called(lambda image: module(image))


def _metadata(subject: Subject) -> dict[str, Any]:
    plan, card = subject.plan, subject.card
    packages = {name: version(name) for name in ("nibabel", "scipy")}
    shape, target = list(plan.shape), plan.target
    is_mask = target.answer == "voxel"
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "MR",
        "num_channels": plan.n_channels,
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": is_mask,
        "channel_def": {str(n): name for n, name in enumerate(plan.data.source.modalities)},
    }
    pred = {
        "type": "image" if is_mask else "probabilities",
        "format": "labels" if is_mask else "classes",
        "num_channels": subject.n_outputs,
        "spatial_shape": shape if is_mask else [],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": is_mask,
        "channel_def": {str(n): name for n, name in enumerate(subject.channels)},
    }
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"weights {card.sha256}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": packages,
        "name": plan.name,
        "task": target.learned,
        "description": f"Trained by fedmri; its outputs become an answer by: {subject.reading}.",
        "authors": f"{card.n_sites} sites",
        "copyright": "of the sites that trained it",
        "intended_use": card.intended_use,
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }


def _inference(subject: Subject) -> dict[str, Any]:
    """Return how the bundle runs: a prepared image of numpy in, raw outputs of numpy out."""
    is_mask = subject.plan.target.answer == "voxel"
    window = {
        "_target_": "monai.inferers.SlidingWindowInferer",
        "roi_size": list(subject.plan.shape),
        "overlap": OVERLAP,
        "mode": "gaussian",
    }
    return {
        "imports": ["$import numpy", "$import torch"],
        "bundle_root": ".",
        "image_path": "$@bundle_root + '/image.npy'",
        "output_path": "$@bundle_root + '/output.npy'",
        "network_def": f"$torch.jit.load(@bundle_root + '/{PROGRAM}').eval()",
        "inferer": window if is_mask else {"_target_": "monai.inferers.SimpleInferer"},
        "image": "$torch.from_numpy(numpy.load(@image_path))[None].float()",
        "output": "$@inferer(@image, @network_def).detach()[0].numpy()",
        "run": ["$numpy.save(@output_path, @output)"],
    }


def _readme(subject: Subject) -> str:
    plan = subject.plan
    return (
        f"# {plan.name}\n\n{subject.card.intended_use}\n\n"
        f"The image is a prepared one, of shape {plan.n_channels, *plan.shape}, as an array of "
        "numpy (`image_path`). The preparation is that of fedmri and is not part of this bundle. "
        f"The outputs become an answer by: {subject.reading}.\n\n"
        "Run it in the folder of the bundle:\n\n"
        "    python -m monai.bundle run --config_file configs/inference.json\n\n"
        f"SHA-256 of the weights: {subject.card.sha256}\n"
    )


def _json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
