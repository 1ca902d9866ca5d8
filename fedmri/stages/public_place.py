"""Where embeddings of heads lie, from public images alone: centre, scale and a projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedmri.stages.stage import Made

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

N_PHANTOMS = 60
WITHIN = 1.5
"""Spread of the phantoms' embeddings that a patient's may be away from their centre."""


@dataclass(frozen=True)
class PublicPlace:
    """What an embedding is centred, projected and scaled by.

    Attributes:
        centre: Mean embedding of public images, shape ``(d,)``.
        projection: Orthogonal and random, over the scale, shape ``(d, k)``.
    """

    centre: NDArray[np.float64]
    projection: NDArray[np.float64]


def public_place(made: Made, n_numbers: int) -> PublicPlace:
    """Return the place under a model; the same model and plan give the same.

    Args:
        made: Plan, network and its entries.
        n_numbers: Numbers of the projection; no more than an embedding has.
    """
    import numpy as np

    from fedmri.training.seeds import derive_seed

    values = _embedded(made)
    centre, n_features = values.mean(axis=0), values.shape[1]
    projection = np.eye(n_features)
    if n_numbers < n_features:
        source = np.random.default_rng(derive_seed(made.plan.seed, "public projection"))
        projection = np.linalg.qr(source.normal(size=(n_features, n_numbers)))[0]
    spread = float(np.linalg.norm((values - centre) @ projection, axis=1).mean())
    return PublicPlace(centre, projection / max(WITHIN * spread, 1e-9))


def _embedded(made: Made) -> NDArray[np.float64]:
    """Return embeddings of phantoms, shape ``(n, d)``, on the CPU."""
    import numpy as np
    import torch

    from fedmri.models.build import build_network
    from fedmri.models.embedding import embedding_of
    from fedmri.models.weights import load_weights
    from fedmri.privacy.phantoms import phantoms
    from fedmri.training.computing.device import reproducible

    plan = made.plan
    network = build_network(plan.model, **plan.network).eval()
    load_weights(network, dict(made.entries))
    images = torch.from_numpy(phantoms(plan.shape, N_PHANTOMS, plan.seed))
    with (
        reproducible(plan.train.n_threads),
        torch.no_grad(),
        embedding_of(network, made.layout.head_layer) as embedding,
    ):
        found = []
        for image in images:
            network(image[None, None].expand(1, plan.n_channels, *plan.shape))
            found.append(embedding.value[0].double().numpy())
    return np.stack(found)
