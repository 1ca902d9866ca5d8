"""What strategies add to a site's gradients."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fedmri.round import GradientTerm


def pull(anchor: Mapping[str, torch.Tensor], strength: float) -> GradientTerm:
    """Return the gradient of ``strength / 2`` times the squared distance to an anchor."""

    def term(network: torch.nn.Module) -> None:
        for name, parameter in network.named_parameters():
            if parameter.grad is not None and name in anchor:
                there = anchor[name].to(parameter.device)
                parameter.grad.add_(parameter.detach() - there, alpha=strength)

    return term


def shift(by: Mapping[str, torch.Tensor]) -> GradientTerm:
    """Return what adds the same tensors to the gradients of every step."""

    def term(network: torch.nn.Module) -> None:
        for name, parameter in network.named_parameters():
            if parameter.grad is not None and name in by:
                parameter.grad.add_(by[name].to(parameter.device))

    return term


def both(one: GradientTerm, other: GradientTerm) -> GradientTerm:
    """Return what adds one and then the other."""

    def term(network: torch.nn.Module) -> None:
        one(network)
        other(network)

    return term
