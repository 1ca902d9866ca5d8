"""One round of training at one site."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Protocol

import torch
from torch import nn

from fedmri.data.batches.site_data import Example, SiteData
from fedmri.errors import RoundError
from fedmri.machine.memory import keep_freed
from fedmri.round import Batch, GradientTerm, LossTerm, Weights
from fedmri.tasks.task import Task
from fedmri.training.ahead import ahead
from fedmri.training.computing.arithmetic import Arithmetic
from fedmri.training.computing.device import memory_explained, reproducible, seeded
from fedmri.training.optimizers import (
    make_lookahead,
    make_optimizer,
    set_rate,
    squares_of,
    take_squares,
)
from fedmri.training.schedules import learning_rate, plateau_factor
from fedmri.training.seeds import derive_seed
from fedmri.training.settings import TrainConfig

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class StepSource(Protocol):
    """Another source of batches and gradients: see ``fedmri.privacy``."""

    def n_steps(self, examples: Sequence[Example], local_epochs: int, local_steps: int) -> int:
        """Return the steps of a round."""
        ...

    def batches(self, data: SiteData, n_steps: int, seed: int) -> Iterator[list[Batch]]:
        """Yield what each step sees; nothing is a step too."""
        ...

    def fill(
        self,
        network: nn.Module,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        batches: Sequence[Batch],
    ) -> None:
        """Put the gradient of a step into ``.grad`` of every trained parameter."""
        ...


@dataclass(frozen=True)
class TrainResult:
    """What a round of training at a site came to.

    Attributes:
        loss: Mean loss over the examples of all steps taken, before each step; NaN without any.
        n_examples: Training examples of the site: volumes or slices, never batches.
        n_subjects: Patients behind them.
        n_steps: Steps taken.
        n_seen: Examples in them, each as often as it was seen; 0 where gradients are private.
        n_skipped: Steps left out because their loss or gradient was not finite.
        seconds: Wall time, loading included.
        rate_sum: Sum of the learning rates of the steps taken.
        grad_norm: Mean L2 norm of the gradient before clipping; NaN where nothing is clipped.
        optimizer_state: For the next round, where the optimizer is kept; aliases this round's.
        squares: Second moments of Adam without bias, where they were asked for.
    """

    loss: float
    n_examples: int
    n_subjects: int
    n_steps: int
    n_seen: int
    n_skipped: int
    seconds: float
    rate_sum: float
    grad_norm: float
    optimizer_state: dict[str, Any] | None
    squares: Weights


def train_round(  # noqa: PLR0913  # every one is named at the call
    network: nn.Module,
    data: SiteData,
    task: Task,
    config: TrainConfig,
    *,
    round_index: int,
    n_rounds: int,
    seed: int,
    gradient_term: GradientTerm | None = None,
    loss_term: LossTerm | None = None,
    optimizer_state: dict[str, Any] | None = None,
    squares: Weights | None = None,
    loss_history: Sequence[float] = (),
    steps: StepSource | None = None,
    prepare: Callable[[nn.Module], None] | None = None,
) -> TrainResult:
    """Train a network in place on a site's examples for one round.

    It takes ``local_epochs`` passes over the data, or ``local_steps`` steps. Step ``i`` of round
    ``r`` has the global step ``(r - 1) * steps_per_round + i``, so schedules need no state. The
    same arguments give the same bits on the CPU, whatever was drawn or set elsewhere.

    Args:
        network: Network to train; it is moved to the device and left in training mode.
        data: Examples of the site. Without any, nothing is trained.
        task: Loss; class weights are counted here, in the site's own training examples.
        config: Optimizer, schedule, length of a round.
        round_index: Round, from 1.
        n_rounds: Rounds of the experiment.
        seed: Decides the order of examples, their augmentation, and dropout.
        gradient_term: Edits gradients before they are clipped.
        loss_term: Adds to the loss of each batch; the loss that is reported is the task's alone.
        optimizer_state: Of the round before, where the optimizer is kept.
        squares: Second moments that a kept Adam goes on with; None neither sets nor returns any.
        loss_history: Training loss of each round so far (``plateau``).
        steps: Where batches and gradients come from, instead of autograd over shuffled batches.
            All that follows stays. No loss is reported then: it would be a patient's, unnoised.
        prepare: Is given the network in training mode, before the first step.

    Returns:
        Counts, mean loss, and the state of the optimizer.

    Raises:
        ConfigError: The device is not there, or lacks the precision (C23).
        RoundError: No step had a finite loss (R20), or memory ran out (R21).
    """
    keep_freed()
    started, arithmetic = time.perf_counter(), Arithmetic.of(config)
    device = arithmetic.device
    examples = data.examples("train")
    n_steps = n_round_steps(config, len(examples))
    if steps is not None and examples:
        n_steps = steps.n_steps(examples, config.local_epochs, config.local_steps)
    first = (round_index - 1) * n_steps
    network.to(device).train()
    if prepare is not None:
        prepare(network)
    trainer = _Trainer(network, task.at_site(examples), config, arithmetic)
    trainer.resume(optimizer_state)
    take_squares(network, trainer.optimizer, squares or {})
    factor = plateau_factor(loss_history, config.patience) if config.schedule == "plateau" else 1.0
    with (
        reproducible(config.n_threads),
        memory_explained(device),
        seeded(derive_seed(seed, "dropout", round_index), device),
    ):
        order = derive_seed(seed, "order", round_index)
        if config.augment_on == "device" and device.type != "cpu":
            data = data.placed(device)
        passes: Iterator[Batch | list[Batch]] = (
            _loaded(_batches(data, config, order), config.n_ahead, device)
            if steps is None or not examples
            else steps.batches(data, n_steps, order)  # drawn in turn with the noise
        )
        for step, batch in enumerate(passes if examples else (), first):
            rate, momentum = learning_rate(config, step, n_rounds * n_steps)
            set_rate(trainer.optimizer, config, rate * factor, momentum)
            if isinstance(batch, Batch):
                trainer.step(batch, gradient_term, loss_term)
            elif steps is not None:
                trainer.private_step(steps, batch, gradient_term)
        totals = trainer.finish()
    return TrainResult(
        n_examples=len(examples),
        n_subjects=len({(example.site, example.subject) for example in examples}),
        seconds=time.perf_counter() - started,
        optimizer_state=trainer.optimizer.state_dict() if config.is_optimizer_kept else None,
        squares={} if squares is None else squares_of(network, trainer.optimizer),
        **totals,
    )


def even(n_examples: int, n_steps: int) -> list[int]:
    """Return how many examples each step takes, the larger ones first; they differ by one."""
    least, n_more = divmod(n_examples, n_steps)
    return [least + (step < n_more) for step in range(n_steps)]


def n_round_steps(config: TrainConfig, n_examples: int) -> int:
    """Return the steps of a round at a site."""
    return config.local_steps or config.local_epochs * math.ceil(n_examples / config.batch_size)


class _Trainer:
    """The optimizer of a round and the sums over its steps."""

    def __init__(
        self, network: nn.Module, task: Task, config: TrainConfig, arithmetic: Arithmetic
    ) -> None:
        device, is_scaled = arithmetic.device, arithmetic.precision == "fp16"
        self.network, self.task, self.arithmetic, self.device = network, task, arithmetic, device
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(self.parameters, config)
        self.lookahead = make_lookahead(self.parameters, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=is_scaled)
        self.clip_norm = config.clip_grad_norm
        self.loss_sum = torch.zeros((), device=device)
        self.norm_sum = self.rate_sum = 0.0
        self.n_seen = self.n_steps = self.n_skipped = 0

    def resume(self, state: dict[str, Any] | None) -> None:
        """Go on with an optimizer's state, if there is one."""
        if state is not None:
            self.optimizer.load_state_dict(state)

    def step(
        self, batch: Batch, gradient_term: GradientTerm | None, loss_term: LossTerm | None
    ) -> None:
        """Take one step, or leave it out where its loss or gradient is not finite."""
        target = batch.target.to(self.device, non_blocking=True)
        outputs = self.arithmetic.outputs(self.network, self.arithmetic.inputs(batch.inputs))
        loss = self.task.mean_loss(outputs, target)
        total = loss if loss_term is None else loss + loss_term(target)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(total))
        self.scaler.unscale_(self.optimizer)
        if gradient_term is not None:
            gradient_term(self.network)
        # The step's one wait for the device: a network that has taken in a NaN is lost for good.
        norm = self._clipped_norm() if self.clip_norm else float(total.detach())
        if math.isfinite(norm):
            self.scaler.step(self.optimizer)
            self._count(loss.detach(), len(batch.subjects), norm)
        else:
            self.n_skipped += 1
        self.scaler.update()

    def private_step(
        self, steps: StepSource, batches: Sequence[Batch], gradient_term: GradientTerm | None
    ) -> None:
        """Take one step along a gradient that another source gives, noise included."""
        steps.fill(self.network, self.task.mean_loss, self.optimizer, batches)
        if gradient_term is not None:
            gradient_term(self.network)  # after the noise: it spends nothing
        norm = self._clipped_norm() if self.clip_norm else 0.0
        self.optimizer.step()
        self._count(torch.zeros((), device=self.device), 0, norm)

    def finish(self) -> dict[str, Any]:
        """Bring slow weights home and return the sums; raise R20 where no step was taken."""
        if self.n_skipped and not self.n_steps:
            what = "training of this round"
            found = f"no finite loss or gradient in {self.n_skipped} steps"
            fix = "lower train.lr, and look at the intensities and at train.precision"
            raise RoundError("R20", what, found=found, want="one finite step", fix=fix)
        if self.lookahead is not None:
            self.lookahead.synchronise()
        self.optimizer.zero_grad(set_to_none=True)  # between rounds a model's worth of memory
        is_normed = self.clip_norm and self.n_steps
        return {
            "loss": float(self.loss_sum) / self.n_seen if self.n_seen else math.nan,
            "n_steps": self.n_steps,
            "n_seen": self.n_seen,
            "n_skipped": self.n_skipped,
            "rate_sum": self.rate_sum,
            "grad_norm": self.norm_sum / self.n_steps if is_normed else math.nan,
        }

    def _clipped_norm(self) -> float:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        total = nn.utils.get_total_norm(gradients)
        norm = float(total)
        if self.clip_norm < norm < math.inf:
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip_norm, total)
        return norm

    def _count(self, loss: torch.Tensor, n_examples: int, norm: float) -> None:
        if self.lookahead is not None:
            self.lookahead.advance()
        self.loss_sum.add_(loss, alpha=n_examples)
        self.norm_sum += norm
        self.rate_sum += float(self.optimizer.param_groups[0]["lr"])
        self.n_seen += n_examples
        self.n_steps += 1


def _loaded(batches: Iterator[Batch], n_ahead: int, device: torch.device) -> Iterator[Batch]:
    """Return the batches, loaded before a step wants them."""
    if device.type == "cuda":
        batches = (batch.pinned() for batch in batches)
    return ahead(batches, n_ahead)


def _batches(data: SiteData, config: TrainConfig, seed: int) -> Iterator[Batch]:
    epochs = count() if config.local_steps else range(config.local_epochs)
    seeds = (derive_seed(seed, "epoch", epoch) for epoch in epochs)
    if config.local_examples:
        return data.train_sized(even(config.local_examples, config.local_steps), seeds=seeds)
    batches = (
        batch
        for epoch_seed in seeds
        for batch in data.train_batches(batch_size=config.batch_size, seed=epoch_seed)
    )
    return islice(batches, config.local_steps) if config.local_steps else batches
