"""Vision transformer: an image as a sequence of patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import require
from fedmri.models.model import IMAGE, LayerNormed
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

_PATCH, _HEAD = 16, 64


@dataclass(frozen=True)
class ViT(LayerNormed):
    """ViT-B/16, whose norm is layer norm alone.

    Attributes:
        width: Channels of a token, in heads of 64.
    """

    width: int = 768

    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    multiple: ClassVar[int] = _PATCH
    source: ClassVar[str] = "Dosovitskiy et al. 2021, arXiv:2010.11929"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % _HEAD == 0, "model.width", self.width, f"a multiple of {_HEAD}")

    def build(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets.vit import ViT as Network

        from fedmri.models.blocks import TokenHead

        return TokenHead(
            Network(
                in_channels=sizes.n_channels,
                img_size=sizes.shape,
                patch_size=_PATCH,
                hidden_size=self.width,
                mlp_dim=4 * self.width,
                num_heads=self.width // _HEAD,
                classification=True,
                num_classes=sizes.n_outputs,
                dropout_rate=self.dropout,
                spatial_dims=sizes.n_dims,
                post_activation="",
            )
        )
