"""Optimizers by name, and how a schedule sets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer, RAdam

from fedmri.round import Weights
from fedmri.training.settings import TrainConfig

Parameters = Sequence[torch.nn.Parameter]


class Lookahead:
    """Slow weights that follow the fast ones of any optimizer, every ``k`` steps by ``alpha``.

    Args:
        parameters: Fast weights; the slow ones start where they are.
        k: Steps between moves.
        alpha: Share of the way that the slow weights go; the fast ones continue from there.

    Source:
        Zhang, Lucas, Hinton and Ba 2019, Lookahead optimizer, arXiv:1907.08610.
    """

    def __init__(self, parameters: Parameters, *, k: int = 6, alpha: float = 0.5) -> None:
        self._fast = [parameter.detach() for parameter in parameters]
        self._slow = [fast.clone() for fast in self._fast]
        self._k, self._alpha, self._n_ahead = k, alpha, 0

    def advance(self) -> None:
        """Count a step of the fast weights; the ``k``-th moves the slow ones."""
        self._n_ahead += 1
        if self._n_ahead == self._k:
            self.synchronise()

    def synchronise(self) -> None:
        """Move the slow weights and put the fast ones there, before the weights leave the site.

        Steps since the last move count for ``alpha`` like any others, so that a round of fewer than
        ``k`` steps is not lost.
        """
        if self._n_ahead == 0:
            return
        torch._foreach_lerp_(self._slow, self._fast, self._alpha)
        torch._foreach_copy_(self._fast, self._slow)
        self._n_ahead = 0


def make_optimizer(parameters: Parameters, config: TrainConfig) -> Optimizer:
    """Return the optimizer of a round over the parameters given.

    ``ranger`` is RAdam here; ``make_lookahead`` is its other half.

    Source:
        Loshchilov and Hutter 2019, AdamW, arXiv:1711.05101. Liu et al. 2020, RAdam,
        arXiv:1908.03265.
    """
    rate, decay = config.lr, config.weight_decay
    # one kernel instead of one an operation; on a CPU it would change bits
    is_fused = True if parameters and parameters[0].is_cuda else None
    if config.optimizer == "sgd":
        return SGD(parameters, lr=rate, momentum=config.momentum, weight_decay=decay)
    if config.optimizer == "adam":
        return Adam(parameters, lr=rate, weight_decay=decay, fused=is_fused)
    if config.optimizer == "ranger":
        return RAdam(parameters, lr=rate, weight_decay=decay, decoupled_weight_decay=True)
    return AdamW(parameters, lr=rate, weight_decay=decay, fused=is_fused)


def make_lookahead(parameters: Parameters, config: TrainConfig) -> Lookahead | None:
    """Return the slow weights that ``ranger`` has; None for other optimizers."""
    return Lookahead(parameters) if config.optimizer == "ranger" else None


def take_squares(network: torch.nn.Module, optimizer: Optimizer, squares: Weights) -> None:
    """Let a kept Adam go on with second moments of others; zeros leave its own.

    Args:
        network: Network whose parameters the optimizer steps.
        optimizer: Adam or AdamW; one that has taken no step yet stays as it is.
        squares: Second moments without bias, by parameter.
    """
    for name, parameter in network.named_parameters():
        state, found = optimizer.state.get(parameter, {}), squares.get(name)
        if "exp_avg_sq" in state and found is not None and bool(found.any()):
            state["exp_avg_sq"].copy_(found * _bias(optimizer, state))


def squares_of(network: torch.nn.Module, optimizer: Optimizer) -> Weights:
    """Return Adam's second moments without bias, by parameter; zeros before its first step."""
    found: Weights = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            state = optimizer.state.get(parameter, {})
            moment = state.get("exp_avg_sq")
            is_new = moment is None
            value = torch.zeros_like(parameter) if is_new else moment / _bias(optimizer, state)
            found[name] = value.detach().cpu()
    return found


def _bias(optimizer: Optimizer, state: Mapping[str, Any]) -> float:
    beta2: float = optimizer.param_groups[0]["betas"][1]
    return float(1 - beta2 ** float(state["step"]))


def set_rate(optimizer: Optimizer, config: TrainConfig, rate: float, momentum: float) -> None:
    """Set the rate of a step, and under ``cyclic`` the momentum (Adam's first beta)."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        if config.schedule == "cyclic":
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum
