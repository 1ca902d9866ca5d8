"""EfficientNets of MONAI by their size."""

from __future__ import annotations

from monai.networks.nets.efficientnet import EfficientNet, efficientnet_params

from fedmri.models.sizes import Sizes

# Table 1 of the paper: repeats, kernel, stride, expansion, channels in and out, squeeze.
_BLOCKS = (
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
)
_STEM = 32


def efficient_network(size: str, width: int, sizes: Sizes, dropout: float) -> EfficientNet:
    """Return EfficientNet ``b0`` to ``b8``; a width of 32 is that of the paper."""
    width_factor, depth_factor, *_ = efficientnet_params[f"efficientnet-{size}"]
    return EfficientNet(
        list(_BLOCKS),
        spatial_dims=sizes.n_dims,
        in_channels=sizes.n_channels,
        num_classes=sizes.n_outputs,
        width_coefficient=width_factor * width / _STEM,
        depth_coefficient=depth_factor,
        dropout_rate=dropout,
        drop_connect_rate=dropout,
        image_size=max(sizes.shape) or 224,
    )
