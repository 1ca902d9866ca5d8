"""MONAI's networks, each set up so that two sites, two seeds and two machines can agree on it.

Nothing is downloaded. Norm layers are batch norm here and exchanged afterwards (``norm.py``), since
MONAI offers the choice for some networks only.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.efficientnet import EfficientNet
from monai.networks.nets.resnet import ResNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from monai.networks.nets.vit import ViT
from torch import nn

from fedmri.errors import require
from fedmri.models.settings import ModelConfig
from fedmri.models.sizes import Sizes

PATCH = 16
HEAD = 64
# Tan and Le 2019, EfficientNet, arXiv:1905.11946, table 1: repeats, kernel, stride, expansion,
# channels in and out, squeeze and excitation.
B0_BLOCKS = (
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
)


def densenet121(config: ModelConfig, sizes: Sizes) -> nn.Module:
    """Return DenseNet-121 (Huang et al. 2017, arXiv:1608.06993); width 64, growth half of it."""
    width = config.width or 64
    return DenseNet121(
        **_ports(sizes),
        init_features=width,
        growth_rate=max(1, width // 2),
        dropout_prob=config.dropout,
    )


def resnet18(config: ModelConfig, sizes: Sizes) -> nn.Module:
    """Return ResNet-18 (He et al. 2016, arXiv:1512.03385); width 64.

    With projection shortcuts: MONAI's own default for ResNet-18 pads with zeros and cuts the
    gradient of the shortcut off.
    """
    return ResNet(
        block="basic",
        layers=[2, 2, 2, 2],
        block_inplanes=[(config.width or 64) * 2**i for i in range(4)],
        spatial_dims=sizes.n_dims,
        n_input_channels=sizes.n_channels,
        num_classes=sizes.n_outputs,
        conv1_t_size=7,
        conv1_t_stride=2,
        shortcut_type="B",
        bias_downsample=False,
    )


def efficientnet_b0(config: ModelConfig, sizes: Sizes) -> nn.Module:
    """Return EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946); width 32.

    ``dropout`` is the rate of the last layer and of dropped connections; the paper took 0.2.
    """
    return EfficientNet(
        list(B0_BLOCKS),
        spatial_dims=sizes.n_dims,
        in_channels=sizes.n_channels,
        num_classes=sizes.n_outputs,
        width_coefficient=(config.width or 32) / 32,
        dropout_rate=config.dropout,
        drop_connect_rate=config.dropout,
        image_size=max(sizes.shape) or 224,
    )


def vit(config: ModelConfig, sizes: Sizes) -> nn.Module:
    """Return a vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), ViT-B/16.

    Width is that of the tokens, 768 by default, in heads of 64. It has layer norm alone.
    """
    width = config.width or 768
    require(width % HEAD == 0, "model.width", width, f"a multiple of {HEAD} for vit")
    return _TokenHead(
        ViT(
            in_channels=sizes.n_channels,
            img_size=sizes.shape,
            patch_size=PATCH,
            hidden_size=width,
            mlp_dim=4 * width,
            num_heads=width // HEAD,
            classification=True,
            num_classes=sizes.n_outputs,
            dropout_rate=config.dropout,
            spatial_dims=sizes.n_dims,
            post_activation="",
        )
    )


def unet(config: ModelConfig, sizes: Sizes) -> nn.Module:
    """Return a residual U-Net of five levels (Kerfoot et al. 2019, 10.1007/978-3-030-12029-0_40).

    Width 16; it doubles from level to level.
    """
    return UNet(
        **_ports(sizes),
        channels=_levels(config),
        strides=(2, 2, 2, 2),
        num_res_units=2,
        norm="batch",
        dropout=config.dropout,
    )


def attention_unet(config: ModelConfig, sizes: Sizes) -> nn.Module:
    """Return Attention U-Net of five levels (Oktay et al. 2018, arXiv:1804.03999); width 16."""
    return AttentionUnet(
        **_ports(sizes), channels=_levels(config), strides=(2, 2, 2, 2), dropout=config.dropout
    )


def segresnet(config: ModelConfig, sizes: Sizes) -> nn.Module:
    """Return SegResNet without its autoencoder (Myronenko 2018, arXiv:1810.11654); width 16.

    Upsampling is learned: that of interpolation has no deterministic gradient on GPUs.
    """
    return SegResNet(
        **_ports(sizes),
        init_filters=config.width or 16,
        dropout_prob=config.dropout or None,
        norm="batch",
        upsample_mode="deconv",
    )


def swin_unetr(config: ModelConfig, sizes: Sizes) -> nn.Module:
    """Return Swin UNETR (Hatamizadeh et al. 2022, arXiv:2201.01266); width 24."""
    width = config.width or 24
    require(width % 12 == 0, "model.width", width, "a multiple of 12 for swin_unetr")
    return SwinUNETR(
        **_ports(sizes), feature_size=width, norm_name="batch", drop_rate=config.dropout
    )


class _TokenHead(nn.Module):
    """MONAI's ViT without the hidden states that it returns and the norms that it never uses."""

    def __init__(self, network: ViT) -> None:
        super().__init__()
        for block in network.blocks:
            # Only cross attention has a use for it: it would travel every round, never trained.
            block.norm_cross_attn = nn.Identity()
        self.vit = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.vit(image)[0]
        return logits


def _ports(sizes: Sizes) -> dict[str, Any]:
    return {
        "spatial_dims": sizes.n_dims,
        "in_channels": sizes.n_channels,
        "out_channels": sizes.n_outputs,
    }


def _levels(config: ModelConfig) -> tuple[int, ...]:
    return tuple((config.width or 16) * 2**i for i in range(5))
