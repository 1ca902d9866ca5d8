"""Steps of DP-SGD whose unit is the patient.

Each step draws every patient of the site by itself with the same probability, and of each drawn
patient one example (a scan or a slice), whatever the number that the patient has. The gradient of
each is clipped, they are summed, noise is added, and the sum is divided by the *expected* number of
patients. A step that drew nobody is noise alone, and counts.

Source:
    Abadi et al. 2016, arXiv:1607.00133; Opacus: Yousefpour et al. 2021, arXiv:2109.12298.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.optim import Optimizer

from fedmri.data.batches.site_data import Example, SiteData
from fedmri.privacy.accounting import Steps
from fedmri.privacy.per_sample import (
    Gradients,
    Inputs,
    Loss,
    by_loop,
    by_vmap,
    is_vmap_right,
    refuse_batch_norm,
)
from fedmri.privacy.settings import PrivacyConfig
from fedmri.privacy.stream import Stream
from fedmri.round import Batch

if TYPE_CHECKING:
    from fedmri.privacy.noised_sum import NoisedSum

CHUNK = 8
"""Examples whose gradients are in memory together."""


def round_steps(
    config: PrivacyConfig, n_subjects: int, *, local_epochs: int, local_steps: int
) -> Steps:
    """Return the steps of a round at a site: what is trained, and what is accounted for.

    Args:
        config: Noise and expected batch.
        n_subjects: Training patients of the site, 1 or more.
        local_epochs: Passes over the patients, in expectation.
        local_steps: Steps instead; 0 counts epochs.
    """
    rate = min(1.0, config.batch_subjects / n_subjects)
    n_steps = local_steps or local_epochs * max(1, math.ceil(n_subjects / config.batch_subjects))
    return Steps(config.noise_multiplier, rate, n_steps)


@dataclass
class PrivateSteps:
    """Where ``train_round`` takes its batches and gradients from, when patients are protected.

    Attributes:
        config: Noise, clip norm, expected batch.
        key: Of this round, of this site, of this order: see ``stream.key_for``.
    """

    config: PrivacyConfig
    key: bytes

    def __post_init__(self) -> None:
        self._stream = Stream(self.key)
        self._is_vmapped: bool | None = None
        self._noised: NoisedSum | None = None
        self._expected = self.config.batch_subjects

    def n_steps(self, examples: Sequence[Example], local_epochs: int, local_steps: int) -> int:
        """Return the steps of a round."""
        n_subjects = len(_by_subject(examples))
        counted = round_steps(
            self.config, n_subjects, local_epochs=local_epochs, local_steps=local_steps
        )
        return counted.n_steps

    def batches(self, data: SiteData, n_steps: int, seed: int) -> Iterator[list[Batch]]:
        """Yield the examples of each step, of one shape each batch; none for an empty step.

        Args:
            data: The site.
            n_steps: Steps of the round.
            seed: Decides augmentation, which may be known; who is drawn comes from the key.
        """
        patients = _by_subject(data.examples("train"))
        rate = min(1.0, self.config.batch_subjects / len(patients))
        self._expected = rate * len(patients)
        for step in range(n_steps):
            drawn = self._stream.uniform(len(patients)) < rate
            which = self._stream.uniform(len(patients))
            picks = [
                rows[int(share * len(rows))]
                for rows, is_in, share in zip(patients, drawn, which, strict=True)
                if is_in
            ]
            yield list(data.train_picks(picks, seed=seed + step))

    def fill(
        self, network: nn.Module, loss: Loss, optimizer: Optimizer, batches: Sequence[Batch]
    ) -> None:
        """Put the noised mean gradient of a step into ``.grad`` of every trained parameter.

        Raises:
            PrivacyError: The network has batch norm (P33).
        """
        if self._noised is None:
            from fedmri.privacy.noised_sum import NoisedSum  # Opacus takes seconds to import

            refuse_batch_norm(network)
            self._noised = NoisedSum(optimizer, self.config, self._stream)
        self._noised.zero_grad(set_to_none=True)
        device = next(network.parameters()).device
        for batch in batches:
            given = (*batch.inputs_on(device), batch.target.to(device))
            for *inputs, target in zip(*(torch.split(each, CHUNK) for each in given), strict=True):
                found = self._gradients(network, loss, tuple(inputs), target)
                self._noised.take(network, found)
        self._noised.finish(self._expected)

    def _gradients(
        self, network: nn.Module, loss: Loss, inputs: Inputs, target: torch.Tensor
    ) -> Gradients:
        if self._is_vmapped is None:
            with torch.random.fork_rng():
                two = tuple(each[:2] for each in inputs)
                self._is_vmapped = is_vmap_right(network, loss, two, target[:2])
        return (by_vmap if self._is_vmapped else by_loop)(network, loss, inputs, target)


def _by_subject(examples: Sequence[Example]) -> list[list[int]]:
    """Return the rows of the examples of each patient, in the order of their first."""
    rows: dict[tuple[str, str], list[int]] = {}
    for row, example in enumerate(examples):
        rows.setdefault((example.site, example.subject), []).append(row)
    return list(rows.values())
