"""How a network looks at an image that is scored: whole or by windows, and in a mirror."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from fedmri.data.settings import DataConfig

Network = Callable[..., torch.Tensor]

OVERLAP = 0.5
"""Share of a window that its neighbour sees too."""


@dataclass(frozen=True)
class Look:
    """How an image is looked at.

    Attributes:
        patch: Voxels of a window along each axis, of images of another size; empty has no window.
        mirror_axis: Spatial axis along which the mirror image is looked at too; None does not.
        fill: Intensity beyond an image that is smaller than a window.
    """

    patch: tuple[int, ...] = ()
    mirror_axis: int | None = None
    fill: float = 0.0

    @classmethod
    def of(cls, wanted: DataConfig, mirror_axis: int | None) -> Look:
        """Return the look that a plan wants, at images whose left and right lie along an axis."""
        return cls(wanted.sample.patch, mirror_axis if wanted.is_mirrored else None)

    def outputs(self, network: Network, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return a network's raw outputs: the mean of those for the image and its mirror image.

        Args:
            network: Answers each image, or each voxel.
            inputs: Images, shape ``(B, C, *shape)``, and what the network reads beside them.
        """
        found = self._whole(network, inputs)
        if self.mirror_axis is None:
            return found
        image, *beside = inputs
        axis = 2 + self.mirror_axis
        mirrored = self._whole(network, (image.flip(axis), *beside))
        if mirrored.ndim == image.ndim:  # an answer for each voxel lies where the voxel is
            mirrored = mirrored.flip(axis)
        return (found + mirrored) / 2

    def _whole(self, network: Network, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return outputs for whole images; where windows overlap, their middles count most.

        Source:
            Isensee et al. 2021, nnU-Net, doi:10.1038/s41592-020-01008-z.
        """
        image = inputs[0]
        if not self.patch or tuple(image.shape[2:]) == self.patch:
            return network(*inputs)
        from monai.inferers.utils import sliding_window_inference

        return sliding_window_inference(  # type: ignore[return-value]  # one output, one tensor
            image,
            self.patch,
            sw_batch_size=1,
            predictor=network,
            overlap=OVERLAP,
            mode="gaussian",
            cval=self.fill,
        )
