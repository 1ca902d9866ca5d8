"""Whole networks: branches joined, a hidden layer, and one of outputs that is registered last."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal, TypeAlias

import torch
from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.vit import ViT
from torch import nn

from fedmri.models.hybrid_layers.encoders import to_vector
from fedmri.models.hybrid_layers.parcels import ParcelGraph, Parcels
from fedmri.models.hybrid_layers.recurrent import Recurrent
from fedmri.models.hybrid_layers.tokens import TokenEncoder, as_tokens

Joint: TypeAlias = Literal["add", "concat"]


def head(n_features: int, n_hidden: int, n_outputs: int, dropout: float) -> nn.Module:
    """Return a hidden layer with ReLU, dropout, and the layer of outputs."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["hidden"] = nn.Linear(n_features, n_hidden)
    layers["relu"] = nn.ReLU()
    layers["dropout"] = nn.Dropout(dropout)
    layers["out"] = nn.Linear(n_hidden, n_outputs)
    return nn.Sequential(layers)


class TwoBranches(nn.Module):
    """Two networks of the same image whose features are added or laid side by side."""

    def __init__(self, first: nn.Module, second: nn.Module, joint: Joint, head: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.joint, self.head = first, second, joint, head
        self.feature_maps = ("first.0",)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return outputs of images."""
        first, second = self.first(image), self.second(image)
        features = first + second if self.joint == "add" else torch.cat([first, second], 1)
        outputs: torch.Tensor = self.head(features)
        return outputs


class ImageAndTable(nn.Module):
    """A network of the image and one of the table, whose features are laid side by side.

    Args:
        image: From images ``(B, C, *shape)`` to features ``(B, F)``.
        table: From covariates ``(B, K)`` to features ``(B, G)``.
        head: From ``F + G`` features to outputs.
    """

    def __init__(self, image: nn.Module, table: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.image, self.table, self.head = image, table, head
        self.feature_maps = ("image.0",)

    def forward(self, image: torch.Tensor, covariates: torch.Tensor) -> torch.Tensor:
        """Return outputs of images and the covariates of their patients."""
        features = torch.cat([self.image(image), self.table(covariates)], 1)
        outputs: torch.Tensor = self.head(features)
        return outputs


class Sequence(nn.Module):
    """A reader of slices, what goes over them in order, and a head.

    Args:
        reader: From ``(B, C, D, H, W)`` to ``(B, S, F)``.
        over: From items ``(B, S, F)`` to features ``(B, F)``.
        head: From features to outputs.
    """

    def __init__(self, reader: nn.Module, over: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.reader, self.over, self.head = reader, over, head

    def forward(self, image: torch.Tensor, intervals: torch.Tensor | None = None) -> torch.Tensor:
        """Return outputs of volumes.

        Args:
            image: Shape ``(B, C, D, H, W)``.
            intervals: Time or distance since the item before, shape ``(B, S)``, for a memory that
                knows some; None: one unit each.
        """
        items = self.reader(image)
        given = (items,) if intervals is None else (items, intervals)
        outputs: torch.Tensor = self.head(self.over(*given))
        return outputs


class VisitsInOrder(nn.Module):
    """One network for the image of each visit, a memory that goes over visits, and a head.

    Args:
        image: From images of a visit ``(N, C, *shape)`` to features ``(N, F)``.
        memory: Goes over the visits that are there, with the years between them.
        head: From the memory and the other covariates to outputs.
        n_visits: Visits in an image, the last one last.
    """

    def __init__(self, image: nn.Module, memory: Recurrent, head: nn.Module, n_visits: int) -> None:
        super().__init__()
        self.image, self.memory, self.head, self.n_visits = image, memory, head, n_visits
        self.feature_maps = ("image.0",)

    def forward(self, image: torch.Tensor, covariates: torch.Tensor) -> torch.Tensor:
        """Return outputs of patients.

        Args:
            image: Shape ``(B, V * C, *shape)``.
            covariates: Shape ``(B, K + 2 * V)``; the last ones are of each visit the years since
                the one before, and 1 where the visit is missing.
        """
        n = self.n_visits
        each = image.reshape(len(image) * n, -1, *image.shape[2:])
        items = self.image(each).reshape(len(image), n, -1)
        others, visits = covariates[:, : -2 * n], covariates[:, -2 * n :].reshape(-1, n, 2)
        state = self.memory(items, visits[..., 0], visits[..., 1] < 0.5)
        outputs: torch.Tensor = self.head(torch.cat([state, others], 1))
        return outputs


class MeanToken(nn.Module):
    """A transformer over items and the mean of what comes of them."""

    def __init__(self, n_in: int, encoder: TokenEncoder, n_features: int) -> None:
        super().__init__()
        self.project = nn.Linear(n_in, n_features)
        self.encoder = encoder

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Return ``(B, n_features)`` of items ``(B, S, n_in)``."""
        found: torch.Tensor = self.encoder(self.project(items)).mean(1)
        return found


class ViTFeatures(nn.Module):
    """MONAI's ViT as features of the whole image, its class token, or of each patch."""

    def __init__(self, network: ViT, *, is_of_patches: bool) -> None:
        super().__init__()
        for each in network.blocks:
            each.norm_cross_attn = nn.Identity()  # it would travel every round, never trained
        if not is_of_patches:
            network.classification_head = nn.Identity()  # type: ignore[assignment]  # no head
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return ``(B, F)``, or ``(B, S, F)`` of patches."""
        features: torch.Tensor = self.network(image)[0]
        return features


class TokensInOrder(nn.Module):
    """Patches of a ViT, a memory that goes over them, and a head."""

    def __init__(self, patches: ViTFeatures, memory: Recurrent, head: nn.Module) -> None:
        super().__init__()
        self.patches, self.memory, self.head = patches, memory, head

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return outputs of images."""
        outputs: torch.Tensor = self.head(self.memory(self.patches(image)))
        return outputs


class GraphNetwork(nn.Module):
    """Convolutions, parcels as nodes, a graph over them, and a head."""

    def __init__(
        self, features: nn.Module, parcels: Parcels, graph: ParcelGraph, head: nn.Module
    ) -> None:
        super().__init__()
        self.features, self.parcels, self.graph, self.head = features, parcels, graph, head
        self.feature_maps = ("features",)

    def forward(
        self,
        image: torch.Tensor,
        shares: torch.Tensor | None = None,
        edges: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return outputs of images.

        Args:
            image: Shape ``(B, C, *shape)``.
            shares: Parcels of an atlas in place of the own, shape ``(B, P, *shape)``.
            edges: Connectivity in place of the likeness of nodes, shape ``(B, P, P)``.
        """
        nodes = self.parcels(self.features(image), shares)
        outputs: torch.Tensor = self.head(self.graph(nodes, edges))
        return outputs


class ThreeViews(nn.Module):
    """One map of features seen three ways: its mean, a transformer over places, a parcel graph."""

    def __init__(
        self, features: nn.Module, tokens: MeanToken, graph: GraphView, head: nn.Module, n_dims: int
    ) -> None:
        super().__init__()
        self.features, self.mean = features, to_vector(n_dims)
        self.tokens, self.graph, self.head = tokens, graph, head
        self.feature_maps = ("features",)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return outputs of images."""
        features = self.features(image)
        views = [self.mean(features), self.tokens(as_tokens(features)), self.graph(features)]
        outputs: torch.Tensor = self.head(torch.cat(views, 1))
        return outputs


class GraphView(nn.Module):
    """Parcels of a map of features, and a graph over them."""

    def __init__(self, parcels: Parcels, graph: ParcelGraph) -> None:
        super().__init__()
        self.parcels, self.graph = parcels, graph

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return one vector for each map."""
        found: torch.Tensor = self.graph(self.parcels(features))
        return found


def densenet_features(network: DenseNet) -> tuple[nn.Module, int]:
    """Return MONAI's DenseNet without its last layer, and how many features come out."""
    out: Any = network.class_layers.out
    n_features = int(out.in_features)
    network.class_layers.out = nn.Identity()
    return network, n_features
