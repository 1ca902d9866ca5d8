"""Fuzzy c-means over hospitals: centres of clusters from exact sums, and not by gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claims
from fedmri.errors import ConfigError, require
from fedmri.harmonize.sums import Arrays
from fedmri.stages.fuzzy_sums import CENTRES, FuzzyCentres
from fedmri.stages.on_embeddings import SUMS_OF_EMBEDDINGS, OnEmbeddings, embeddings_at
from fedmri.stages.on_images import refuse_other
from fedmri.stages.stage import AtSite, Made, Term

if TYPE_CHECKING:
    from fedmri.harmonize.embeddings.embedding_stage import Embeddings
    from fedmri.plan import Plan


@dataclass(frozen=True)
class Fuzzy(OnEmbeddings):
    """Before each round, clusters of a network's head get the centres of all hospitals' points.

    The sums are those of the pooled points, so the centres are too. They stand still in the round,
    while the layers under them and over them are trained.

    Attributes:
        n_steps: Steps of fuzzy c-means before each round.
    """

    n_steps: int = 1

    claims: ClassVar[Claims] = SUMS_OF_EMBEDDINGS
    source: ClassVar[str] = "Bezdek 1981, doi:10.1007/978-1-4757-0450-1"
    consent: ClassVar[str] = "sums over embeddings of training examples, weighed by cluster"

    def __post_init__(self) -> None:
        require(self.n_steps >= 1, "stages.fuzzy.n_steps", self.n_steps, "1 or more")

    def refuse(self, plan: Plan) -> None:
        """Refuse noise (H23), masks (H22), no fuzzy clusters, or still ones (C03)."""
        super().refuse(plan)
        if plan.train.frozen or plan.train.adapter_rank:
            fix = "set train.frozen=[] train.adapter_rank=0, or leave the stage out"
            want, found = "clusters that travel with the model", "parts that stand still"
            raise ConfigError("C03", "stage fuzzy", found=found, want=want, fix=fix)
        if not hasattr(plan.model, "fuzziness"):
            fix, want = "set model=gabor_paths, or leave the stage out", "one with fuzzy clusters"
            found = type(plan.model).__name__
            raise ConfigError("C03", "network of stage fuzzy", found=found, want=want, fix=fix)

    def fit(self, made: Made) -> FuzzyCentres:
        """Return the sums by cluster."""
        import numpy as np

        start = np.asarray(made.entries[f"{_layer(made)}.{CENTRES}"].numpy(), dtype=np.float64)
        return FuzzyCentres(start, float(getattr(made.plan.model, "fuzziness")), self.n_steps)  # noqa: B009  # no model's door has it

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return the sums over points, without those of clusters that too few patients are near."""
        from fedmri.stages.floor import by_class

        made = at.made
        sums, own, n_least = self.fit(made), _points(at, made), at.account.n_least
        if n_least:
            own = by_class(replace(own, labels=sums.nearest(own, shared)), at.patients, n_least)
        return sums.site_sums(step, own, shared)

    @contextmanager
    def training(self, at: AtSite) -> Iterator[Term | None]:
        """Hold the clusters at the centres that were found."""
        import torch

        assert at.network is not None, "a round is trained with a network"
        centres = at.network.get_parameter(f"{_layer(at.made)}.{CENTRES}")
        found = {name: value.numpy() for name, value in at.fitted.items()}
        refuse_other(found, {CENTRES: tuple(centres.shape)})
        was_trained = centres.requires_grad
        with torch.no_grad():
            centres.copy_(at.fitted[CENTRES])
        centres.requires_grad = False
        try:
            yield None
        finally:
            centres.requires_grad = was_trained


def _layer(made: Made) -> str:
    """Return the name of the layer of clusters."""
    [name] = [name for name in made.entries if name.endswith(f".{CENTRES}")]
    return name.removesuffix(f".{CENTRES}")


def _points(at: AtSite, made: Made) -> Embeddings:
    """Return what the clusters of the network see of each training example."""
    from torch.nn.functional import layer_norm

    layer = _layer(made)
    scale, shift = (made.entries[f"{layer}.norm.{part}"].double() for part in ("weight", "bias"))
    own = embeddings_at(at, "train", layer, len(scale))
    return replace(own, values=layer_norm(own.values, scale.shape, scale, shift))
