"""Modalities joined early, between, late or by attention; those that are absent count for nothing.

A prepared scan marks an absent modality by zeros everywhere. No scan that is there is zero
everywhere, so the network reads from the image which modalities it has.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

_ABSENT = -1e4
"""Score of an absent modality before a softmax: no weight is left of it, in half precision too."""


class Presence(nn.Module):
    """Which modalities an image has, and which of them are shown in training.

    Args:
        n_per_modality: Channels of one modality, side by side.
        drop: Chance that a modality which is there is hidden in training; one always stays.
    """

    def __init__(self, n_per_modality: int, drop: float) -> None:
        super().__init__()
        self.n_per_modality, self.drop = n_per_modality, drop

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images ``(B, M, c, *shape)`` without what is hidden, and ones for what is shown.

        The second has the shape ``(B, M)``. An image of zeros alone shows all of its modalities.
        """
        n_modalities = image.shape[1] // self.n_per_modality
        parts = image.reshape(len(image), n_modalities, self.n_per_modality, *image.shape[2:])
        is_there = (parts != 0).flatten(2).any(2)
        is_there = is_there | ~is_there.any(1, keepdim=True)
        shown = self._shown(is_there) if self.training and self.drop else is_there
        ones = shown.to(image.dtype)
        return parts * ones.reshape(*ones.shape, *[1] * (parts.ndim - 2)), ones

    def _shown(self, is_there: torch.Tensor) -> torch.Tensor:
        draws = torch.rand(is_there.shape, device=is_there.device)
        # the largest draw stays: with the highest chance of all it would have been kept anyway
        best = torch.where(is_there, draws, -torch.ones_like(draws))
        stays = (draws >= self.drop) | (best == best.max(1, keepdim=True).values)
        return is_there & stays


class EarlyFusion(nn.Module):
    """All modalities as channels of one network, beside a channel for each that says it is there.

    Args:
        presence: Which modalities there are.
        network: From ``(B, M * c + M, *shape)`` to features ``(B, F)``.
        head: From features to outputs.
    """

    def __init__(self, presence: Presence, network: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.presence, self.network, self.head = presence, network, head

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return outputs of images."""
        parts, ones = self.presence(image)
        flags = ones.reshape(*ones.shape, *[1] * (image.ndim - 2)).expand(-1, -1, *image.shape[2:])
        outputs: torch.Tensor = self.head(self.network(torch.cat([parts.flatten(1, 2), flags], 1)))
        return outputs


class FeatureFusion(nn.Module):
    """A network for each modality; the mean of the features of those that are shown.

    With ``score`` the mean is weighted by attention.

    Args:
        presence: Which modalities there are.
        networks: One a modality, from ``(B, c, *shape)`` to ``(B, F)``.
        score: From features to one score; None weighs all the same.
        head: From features to outputs.
    """

    def __init__(
        self,
        presence: Presence,
        networks: Iterable[nn.Module],
        score: nn.Module | None,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.presence, self.networks = presence, nn.ModuleList(networks)
        self.score, self.head = score, head
        self.feature_maps = tuple(f"networks.{i}.0" for i in range(len(self.networks)))

    def weights(self, features: torch.Tensor, ones: torch.Tensor) -> torch.Tensor:
        """Return the weight of each modality, shape ``(B, M)``; 0 for those that are absent."""
        scores = torch.zeros_like(ones) if self.score is None else self.score(features)[..., 0]
        return (scores + (1 - ones) * _ABSENT).softmax(1) * ones

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return outputs of images."""
        parts, ones = self.presence(image)
        features = _each(self.networks, parts)
        joined = (self.weights(features, ones)[..., None] * features).sum(1)
        outputs: torch.Tensor = self.head(joined)
        return outputs


class LateFusion(nn.Module):
    """A whole network for each modality; the mean of the outputs of those that are shown.

    The last layers of all networks are one linear layer over hidden features side by side, so that
    the network has one head. Its bias is then one for all.

    Args:
        presence: Which modalities there are.
        networks: One a modality, from ``(B, c, *shape)`` to hidden features ``(B, H)``.
        out: From ``(B, M * H)`` to outputs.
    """

    def __init__(self, presence: Presence, networks: Iterable[nn.Module], out: nn.Module) -> None:
        super().__init__()
        self.presence, self.networks, self.out = presence, nn.ModuleList(networks), out
        self.feature_maps = tuple(f"networks.{i}.0.0" for i in range(len(self.networks)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return outputs of images."""
        parts, ones = self.presence(image)
        share = (ones / ones.sum(1, keepdim=True))[..., None]
        outputs: torch.Tensor = self.out((_each(self.networks, parts) * share).flatten(1))
        return outputs


def _each(networks: nn.ModuleList, parts: torch.Tensor) -> torch.Tensor:
    found: list[torch.Tensor] = [network(parts[:, i]) for i, network in enumerate(networks)]
    return torch.stack(found, 1)
