"""The marginal loss: what a hospital did not draw is neither there nor absent."""

from __future__ import annotations

import torch

FAR = 30.0
"""How far below the background an unknown class is set: no probability is left of it."""


def merged(outputs: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and labels in which the classes that nobody drew are part of the background.

    The softmax of what is returned adds their probabilities to that of the background, so any loss
    of a softmax becomes a marginal one. A scan in which all was drawn keeps its bits.

    Args:
        outputs: Logits, shape ``(B, 1 + K, *shape)``.
        target: Labels, shape ``(B, 1, *shape)``, marked as ``fedmri.data.partial`` does.

    Source:
        Shi, Xiao, Chen and Zhou 2021, doi:10.1016/j.media.2021.101979 (marginal loss). Their
        exclusion loss is not taken over: a softmax already gives each voxel to one class.
    """
    codes = -target.flatten(1).amin(1).clamp(max=0)
    bits = torch.arange(outputs.shape[1] - 1, device=outputs.device)
    is_hidden = (codes[:, None] >> bits) & 1 == 1
    hidden = is_hidden.reshape(*is_hidden.shape, *[1] * (outputs.ndim - 2))
    among = outputs[:, 1:].masked_fill(~hidden, -torch.inf)
    background = torch.cat([outputs[:, :1], among], 1).logsumexp(1, keepdim=True)
    classes = torch.where(hidden, background.detach() - FAR, outputs[:, 1:])
    return torch.cat([background, classes], 1), target.clamp(min=0)
