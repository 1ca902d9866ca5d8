"""How an image is looked at: windows agree with the whole, and mirrors are undone."""

from __future__ import annotations

import torch
from torch import nn

from fedmri.training.looking import Look

IMAGE = torch.rand(2, 1, 12, 10, 9, generator=torch.Generator().manual_seed(0))


class Sided(nn.Module):
    """Adds to each voxel its place along the first axis."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return image + torch.arange(float(image.shape[2])).view(-1, 1, 1)


def test_windows_agree_where_a_voxel_needs_no_neighbour() -> None:
    """A 1 x 1 x 1 convolution gives the same outputs whole and by windows."""
    layer = nn.Conv3d(1, 2, 1)
    found = Look(patch=(8, 10, 4)).outputs(layer, (IMAGE,))
    assert torch.allclose(found, layer(IMAGE), atol=1e-5)


def test_a_mirrored_answer_lies_where_its_voxel_is() -> None:
    """What a network adds by place is averaged from both ends: 5.5 for twelve places."""
    found = Look(mirror_axis=0).outputs(Sided(), (IMAGE,))
    assert torch.allclose(found, IMAGE + 5.5, atol=1e-5)


def test_an_answer_for_an_image_is_the_mean_of_two() -> None:
    """The value at the left edge and that at the right one."""
    found = Look(mirror_axis=0).outputs(
        nn.Sequential(Sided(), nn.Flatten(2)), (IMAGE[:, :, :, :1, :1],)
    )
    first = found[:, 0, 0]
    assert torch.allclose(first, (IMAGE[:, 0, 0, 0, 0] + IMAGE[:, 0, -1, 0, 0]) / 2)
