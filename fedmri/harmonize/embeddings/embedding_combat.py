"""ComBat as a layer: what a scanner does to embeddings is taken out before the head reads them.

The shared half is fitted by sums over the sites' embeddings under one model. Each site then
estimates its own shift and stretch at home and keeps them for the round.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat.combat_site import fit_site
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.combat.site_table import SiteTable
from fedmri.harmonize.embeddings.embedding_stage import Embeddings, Held
from fedmri.harmonize.sums import Arrays
from fedmri.round import Weights

FITTED = ("alpha", "sigma", "is_fitted")


@dataclass(frozen=True)
class EmbeddingComBat:
    """ComBat without covariates over embeddings: a ``SumStage`` of its three steps.

    The target is no covariate: a layer that keeps its effect would write the answers into what
    the head reads. Nor is there any other, so what differs between sites for good reasons, as their
    patients' ages do, is taken out as well.

    Attributes:
        n_features: Of an embedding.
        n_min: A site with fewer training examples takes no part, and its embeddings stay.
    """

    n_features: int
    n_min: int = 10

    @property
    def combat(self) -> ComBat:
        """The method, with its settings."""
        return ComBat(self.n_features, n_min=self.n_min, leaves_flat=False)

    @property
    def n_steps(self) -> int:
        """Those of ComBat."""
        return self.combat.n_steps

    def site_sums(self, step: int, data: Held, shared: Arrays) -> Arrays:
        """Return ComBat's sums.

        Raises:
            HarmonizeError: The site has too few examples (H02).
        """
        if isinstance(data, Embeddings):
            return self.combat.site_sums(step, _table(data), shared)
        return self.combat.nothing(step, shared)

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return what ComBat makes of a total; at last the shared half, shapes ``(d,)``."""
        found = self.combat.combine(step, total, shared)
        return found if step + 1 < self.n_steps else {name: found[name] for name in FITTED}


@dataclass(frozen=True)
class Affine:
    """What is done to a site's embeddings: ``scale * x + shift``, shapes ``(d,)``, float64."""

    scale: Tensor
    shift: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Return embeddings ``(…, d)`` as if of the scanner that all sites have on average."""
        return values * self.scale.to(values) + self.shift.to(values)


def site_affine(stage: EmbeddingComBat, fitted: Weights, own: Embeddings) -> Affine:
    """Estimate a site's shift and stretch from its embeddings alone; no label is read.

    A site with fewer than ``n_min`` rows is left as it is, and so is a feature that was not fitted.

    Args:
        stage: Settings.
        fitted: What the last ``combine`` returned, as it was received.
        own: Training embeddings of the site, or any of a site that was not in the fit.

    Raises:
        HarmonizeError: ``fitted`` is not that of the plan (H21).
    """
    found = {name: tuple(value.shape) for name, value in fitted.items()}
    want = dict.fromkeys(FITTED, (stage.n_features,))
    if found != want:
        fix = "run the same version of fedmri as the server"
        what = "parameters of the embeddings' harmonization"
        raise HarmonizeError("H21", what, found=f"{found}", want=f"{want}", fix=fix)
    if len(own.values) < stage.n_min:
        one = torch.ones(stage.n_features, dtype=torch.float64)
        return Affine(one, torch.zeros_like(one))
    arrays = {name: value.numpy().copy() for name, value in fitted.items()}
    arrays["beta"] = np.zeros((0, stage.n_features))
    effect = fit_site(stage.combat, arrays, _table(own))
    alpha, sigma = arrays["alpha"], arrays["sigma"]
    is_used = (arrays["is_fitted"] > 0) & (effect.delta_star > 0)
    scale = np.where(is_used, 1 / np.sqrt(np.where(is_used, effect.delta_star, 1)), 1)
    shift = np.where(is_used, alpha - (alpha + effect.gamma_star * sigma) * scale, 0)
    return Affine(torch.from_numpy(scale), torch.from_numpy(shift))


@contextmanager
def layer_before(network: nn.Module, head: str, affine: Affine) -> Iterator[None]:
    """Let all embeddings go through an affine before a network's (linear) head."""

    def change(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (affine(args[0]), *args[1:])

    hook = network.get_submodule(head).register_forward_pre_hook(change)
    try:
        yield
    finally:
        hook.remove()


def _table(own: Embeddings) -> SiteTable:
    values = own.values.numpy()
    return SiteTable(own.site, values, np.zeros((len(values), 0)))
