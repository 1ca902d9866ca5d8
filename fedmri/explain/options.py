"""How a model's answers are explained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from fedmri.errors import require

Method: TypeAlias = Literal[
    "gradcam", "gradcam++", "integrated_gradients", "occlusion", "attention"
]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class ExplainOptions:
    """What is shown, and how.

    Attributes:
        methods: Methods that make a map; ``attention`` only where the network has some.
        explained_class: Class whose score is explained; ``""`` takes each scan's predicted one.
        masks: Folder of lesion masks with BIDS names, or None.
        also: Further model files that make an ensemble with the model.
        reference: Scans that the model knows, or a file of sums over their embeddings; None leaves
            out how far a scan is from them.
        n_samples: Passes with dropout on, for a network that has dropout; 0 makes none.
        n_steps: Steps of integrated gradients.
        seed: Of dropout and of the untrained network.
        device: As ``train.device``; ``""`` takes the plan's.
    """

    methods: tuple[Method, ...] = METHODS
    explained_class: str = ""
    masks: Path | None = None
    also: tuple[Path, ...] = ()
    reference: Path | None = None
    n_samples: int = 30
    n_steps: int = 16
    seed: int = 0
    device: str = ""

    def __post_init__(self) -> None:
        known = ", ".join(METHODS)
        is_known = all(method in METHODS for method in self.methods)
        require(is_known, "explain.methods", self.methods, f"some of {known}")
        require(self.n_samples >= 0, "explain.n_samples", self.n_samples, "0 or more")
        require(self.n_steps >= 2, "explain.n_steps", self.n_steps, "2 or more")
