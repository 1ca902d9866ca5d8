"""The sum of clipped gradients of one step, with the noise of the step."""

from __future__ import annotations

import torch
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.optim import Optimizer

from fedmri.privacy.per_sample import Gradients
from fedmri.privacy.settings import PrivacyConfig
from fedmri.privacy.stream import Stream


class NoisedSum(DPOptimizer):  # type: ignore[misc]  # opacus has no types for it
    """Opacus's clipping and summing, with noise of our own stream and a sum taken by chunks."""

    def __init__(self, optimizer: Optimizer, config: PrivacyConfig, stream: Stream) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=config.noise_multiplier,
            max_grad_norm=config.clip_norm,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._stream = stream

    def take(self, network: nn.Module, gradients: Gradients) -> None:
        """Clip each example's gradient and add it to the sum; one that is not finite is 0."""
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()])
        is_finite = norms.isfinite().all(dim=0)
        if not is_finite.all():
            gradients = {name: _only(is_finite, found) for name, found in gradients.items()}
        parameters = dict(network.named_parameters())
        for name, found in gradients.items():
            parameters[name].grad_sample = found  # type: ignore[attr-defined]  # Opacus's own
        self.clip_and_accumulate()
        for parameter in self.params:
            parameter.grad_sample = None

    def finish(self, expected: float) -> None:
        """Add the noise of the step to the sum, and divide by the expected number of patients."""
        std = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            total = parameter.summed_grad
            noise = torch.from_numpy(self._stream.normal(parameter.numel())).to(parameter)
            noised = std * noise.view_as(parameter) + (0 if total is None else total)
            parameter.grad = noised / expected
            parameter.summed_grad = None


def _only(kept: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Return the gradients of some examples, and zeros for the others."""
    return torch.where(kept.view(-1, *[1] * (found.ndim - 1)), found, 0.0)
