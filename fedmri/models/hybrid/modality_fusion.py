"""Modalities joined early, between, late or by attention; some may be absent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.errors import ConfigError, require
from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModalityFusion(NormedWithDropout):
    """A CNN of four blocks for each modality, or one for all.

    An absent modality is zero everywhere in a prepared scan (``data.source.missing=zero``). It
    counts for nothing, and a site without it sends its branch unchanged. Images need 16 voxels
    along each axis.

    Attributes:
        width: Channels of the first block; later ones double.
        fusion: ``early`` (modalities are channels of one network), ``intermediate`` (mean of the
            features of one network each), ``attention`` (weighted mean of these) or ``late`` (mean
            of the outputs of one network each).
        modality_dropout: Chance that a modality is hidden in training; one always stays.
        n_per_modality: Channels of one modality; with ``data.prepare.dimension=2.5d`` more than 1.
    """

    width: int = 8
    fusion: Literal["early", "intermediate", "late", "attention"] = "attention"
    modality_dropout: float = 0.0
    n_per_modality: int = 1

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = (
        "features of modalities that are there, after Havaei et al. 2016, arXiv:1607.05194; "
        "dropped modalities after Neverova et al. 2016, arXiv:1501.00102"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        is_rate = 0 <= self.modality_dropout < 1
        require(is_rate, "model.modality_dropout", self.modality_dropout, "0 to below 1")
        require(self.n_per_modality >= 1, "model.n_per_modality", self.n_per_modality, "1 or more")

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from torch import nn

        from fedmri.models.hybrid_layers.encoders import pyramid, to_vector
        from fedmri.models.hybrid_layers.joined import head
        from fedmri.models.hybrid_layers.modalities import (
            EarlyFusion,
            FeatureFusion,
            LateFusion,
            Presence,
        )

        n_modalities = self._n_modalities(sizes)
        widths = [self.width * 2**i for i in range(4)]
        last, presence = widths[-1], Presence(self.n_per_modality, self.modality_dropout)

        def encoder(n_channels: int) -> nn.Module:
            trunk = pyramid(sizes.n_dims, n_channels, widths)
            return nn.Sequential(trunk, to_vector(sizes.n_dims))

        def top() -> nn.Module:
            return head(last, last, sizes.n_outputs, self.dropout)

        if self.fusion == "early":
            return EarlyFusion(presence, encoder(sizes.n_channels + n_modalities), top())
        each = [encoder(self.n_per_modality) for _ in range(n_modalities)]
        if self.fusion == "late":
            hidden = [nn.Sequential(one, *list(top().children())[:-1]) for one in each]
            return LateFusion(presence, hidden, nn.Linear(n_modalities * last, sizes.n_outputs))
        score = nn.Linear(last, 1) if self.fusion == "attention" else None
        return FeatureFusion(presence, each, score, top())

    def _n_modalities(self, sizes: Sizes) -> int:
        if sizes.n_channels % self.n_per_modality:
            want = f"a multiple of model.n_per_modality, {self.n_per_modality}"
            fix = "set model.n_per_modality to 1, or in 2.5d to 2 * data.prepare.n_neighbours + 1"
            what, found = "channels for modality_fusion", f"{sizes.n_channels}"
            raise ConfigError("C21", what, found=found, want=want, fix=fix)
        return sizes.n_channels // self.n_per_modality
