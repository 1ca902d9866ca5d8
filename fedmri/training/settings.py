"""Settings of the training room."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fedmri.errors import require


@dataclass(frozen=True)
class TrainConfig:
    """Local training at a site, the same in every arm.

    Attributes:
        batch_size: Examples in a step.
        local_epochs: Passes over a site's data in a round.
        local_steps: Steps in a round instead of epochs; 0 counts epochs.
        local_examples: Examples in a round, shared evenly by its ``local_steps``; 0 takes
            ``batch_size`` in each step. Sets the pooled arm's budget in a simulation.
        optimizer: ``ranger`` is RAdam with Lookahead (k 6, alpha 0.5).
        lr: Learning rate, the peak of its schedule.
        momentum: Of ``sgd``; the upper end of ``cyclic`` for every optimizer.
        weight_decay: Decoupled for ``adamw`` and ``ranger``, L2 for ``sgd``.
        schedule: Of the learning rate over all steps of the experiment, by global step; a round
            does not restart it. ``cyclic`` moves momentum against the rate. ``plateau`` halves the
            rate when the training loss has not fallen for ``patience`` rounds.
        warmup: Share of all steps with a rising rate.
        cycle_steps: Steps of one ``cyclic`` cycle, up and down.
        patience: Rounds that ``plateau`` waits.
        clip_grad_norm: L2 bound of the gradient of a step; 0 does not clip.
        precision: Of the network's layers; all else is float32. A run begins with the choice for
            ``auto``: a few timed steps choose bfloat16 where it is faster and loses nothing. Left
            as ``auto`` it is bfloat16 on GPUs that have it, and float32 on a CPU.
        is_precision_required: Whether a site whose machine lacks the precision is refused. Else it
            computes in float32.
        memory_format: Order of images in memory. ``auto`` is chosen like the precision, and left
            as it is it is ``contiguous``. ``channels_last`` is faster for some networks.
        device: ``auto`` takes a GPU where there is one.
        n_threads: CPU threads of one site's training. The bits of a result depend on it, so it
            belongs to the experiment and not to the machine.
        n_ahead: Batches that a thread loads and changes while a step computes. The bits are the
            same. 0 loads each batch when its step begins. Private steps always do so.
        augment_on: Where images are changed at random: on the ``cpu``, or on the ``device`` that
            trains.
        is_optimizer_kept: Whether a site's optimizer state lives on from round to round.
        frozen: Parts of the network that stand still and never leave a site, by their names in it.
            ``layer4:10`` trains and travels from round 10 on. ``*`` is all that is not named but
            the last layer. Of several names the longest counts.
        adapter_rank: Rank of low-rank adapters beside linear and convolution layers (LoRA, Hu et
            al. 2021, arXiv:2106.09685). They and the last layer alone are trained and travel. 0
            trains the layers themselves.
    """

    batch_size: int = 8
    local_epochs: int = 1
    local_steps: int = 0
    local_examples: int = 0
    optimizer: Literal["adamw", "adam", "sgd", "ranger"] = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["constant", "cosine", "cyclic", "plateau"] = "constant"
    warmup: float = 0.0
    cycle_steps: int = 200
    patience: int = 5
    clip_grad_norm: float = 1.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    is_precision_required: bool = False
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    device: str = "auto"
    n_threads: int = 1
    n_ahead: int = 0
    augment_on: Literal["cpu", "device"] = "cpu"
    is_optimizer_kept: bool = False
    frozen: tuple[str, ...] = ()
    adapter_rank: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "local_epochs", "cycle_steps", "patience", "n_threads"):
            value = getattr(self, name)
            require(value >= 1, f"train.{name}", value, "1 or more")
        require(self.local_steps >= 0, "train.local_steps", self.local_steps, "0 or more")
        n_seen, want = self.local_examples, "0, or train.local_steps or more"
        is_enough = n_seen >= self.local_steps > 0
        require(n_seen == 0 or is_enough, "train.local_examples", n_seen, want)
        require(self.n_ahead >= 0, "train.n_ahead", self.n_ahead, "0 or more")
        require(self.lr > 0, "train.lr", self.lr, "a positive number")
        require(0 <= self.momentum < 1, "train.momentum", self.momentum, "0 to below 1")
        require(self.weight_decay >= 0, "train.weight_decay", self.weight_decay, "0 or more")
        require(0 <= self.warmup < 1, "train.warmup", self.warmup, "0 to below 1")
        require(self.clip_grad_norm >= 0, "train.clip_grad_norm", self.clip_grad_norm, "0 or more")
        for text in self.frozen:
            is_read = re.fullmatch(r"(\*|[\w.]+)(:[1-9]\d*)?", text) is not None
            require(is_read, "train.frozen", text, "NAME, or NAME:ROUND with a round from 1")
        want = "false where train.frozen has rounds: an optimizer keeps to its parameters"
        is_kept = self.is_optimizer_kept
        require(not (is_kept and self.is_thawing), "train.is_optimizer_kept", is_kept, want)
        rank, want = (
            self.adapter_rank,
            "0 or more; 0 with train.frozen, for adapters freeze the rest",
        )
        require(rank >= 0 and not (rank and self.frozen), "train.adapter_rank", rank, want)

    @property
    def is_thawing(self) -> bool:
        """Whether a part of the network begins to move in a later round."""
        return any(first > 1 for first in self.thaws.values())

    @property
    def thaws(self) -> Mapping[str, int]:
        """First round in which each part of ``frozen`` is trained; 0 is never."""
        parts = (text.partition(":") for text in self.frozen)
        return {name: int(first or 0) for name, _, first in parts}
