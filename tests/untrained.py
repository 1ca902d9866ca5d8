"""Models as they are before training, in a model's own file: enough where no score counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedmri.arm import Arm
from fedmri.config import load
from fedmri.models.build import build_network
from fedmri.models.weights import digest, layout
from fedmri.trained.file.card import Entries, Provenance, card_of
from fedmri.trained.file.model_file import ModelFile, write_model
from fedmri.trained.model import TrainedModel
from fedmri.trained.predict import PredictOptions
from tests.conftest import TINY

SMALL = ("model.width=4", "data.prepare.spacing_mm=12", "data.prepare.shape=[16,16,16]")
SETTINGS = {
    "mask": ("experiment=lesion_mask", *SMALL, "train.device=cpu"),
    "age": ("experiment=age", *SMALL, "train.device=cpu"),
    "kind": TINY,
}

Scan = Callable[[Path], Path]


def untrained(name: str, *more: str) -> TrainedModel:
    """Return a model with its initial weights."""
    plan = load([*SETTINGS[name], *more]).plan
    network = build_network(plan.model, **plan.network)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    origin = Provenance(plan, Arm("federated"), ("site01",), 0, digest(weights))
    card = card_of(origin, Entries.of(layout(network), frozenset()), {})
    return TrainedModel(ModelFile(card, weights, {}))


def finding(model: TrainedModel, scan: Path, share: float = 0.3) -> TrainedModel:
    """Return a model of masks with another last bias: it finds its class in a share of a scan."""
    [one] = model.predict(scan, options=PredictOptions(has_probabilities=True))
    assert one.shares is not None
    odds = np.log(np.maximum(one.shares[1], 1e-9) / np.maximum(one.shares[0], 1e-9))
    [bias] = [name for name in model.card.entries.head if name.endswith("bias")]
    weights = {key: value.clone() for key, value in model.file.weights.items()}
    weights[bias][1] -= float(np.quantile(odds[odds > np.log(1e-8)], 1 - share))
    card = replace(model.card, sha256=digest(weights))
    return TrainedModel(replace(model.file, weights=weights, card=card))


def written(model: TrainedModel, path: Path) -> Path:
    """Write a model's file."""
    write_model(path, model.file)
    return path
