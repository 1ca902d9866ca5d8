"""The table of ``docs/models.md``: size and arithmetic of every network, as it is built.

``python -m docs.generate.zoo`` writes it anew; nothing is trained and nothing is read.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from fedmri.claims import Claim, Need, claims_of, needs_of
from fedmri.errors import ConfigError
from fedmri.models.build import build_network, n_parameters
from fedmri.models.registry import MODELS, model_names
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task
from fedmri.training.computing.probe import n_flops

PAGE = Path(__file__).parents[1] / "models.md"
BEGIN, END = "<!-- table of models: made by docs/generate/zoo.py -->", "<!-- end of the table -->"
SHAPES: tuple[tuple[int, ...], ...] = ((128, 128), (64, 64, 64))
"""Images that arithmetic is counted for, one channel each."""
N_COVARIATES = 5
"""Numbers of a patient's age and sex, for a model that reads some."""
N_VISITS = 2
"""Visits for a model that goes over several."""
_IMAGE = Classification("class", ("a", "b", "c"))
_VOXEL = Segmentation("mask", ("lesion",))
_HEAD = """
| Model | Answers | Parameters 2D | GFLOPs 2D | Parameters 3D | GFLOPs 3D | Source | Left open |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def table() -> str:
    """Return the table in Markdown."""
    return _HEAD + "\n".join(row(name) for name in MODELS.own) + "\n"


def row(name: str) -> str:
    """Return the row of a model with its default settings."""
    is_voxel = name in model_names("voxel")
    cells = [f"`{name}`", "voxels" if is_voxel else "images"]
    for shape in SHAPES:
        cells += _counted(name, _VOXEL if is_voxel else _IMAGE, shape)
    kind = MODELS.load(name)
    cells += [getattr(kind, "source", ""), left_open(kind)]
    return f"| {' | '.join(cells)} |"


def left_open(kind: type[object]) -> str:
    """Return the sentences of a model's docstring that begin with "The source"."""
    summary = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")[0]
    sentences = re.split(r"(?<=\.)\s+", " ".join(summary.split()))
    return " ".join(one for one in sentences if one.startswith("The source"))


def with_table(page: str, made: str) -> str:
    """Return a page with its table replaced."""
    between = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    return between.sub(lambda _: f"{BEGIN}\n{made}\n{END}", page)


def _counted(name: str, target: Task, shape: tuple[int, ...]) -> list[str]:
    model = MODELS.made(name)
    n_covariates = N_COVARIATES if Claim.READS_COVARIATES in claims_of(model) else 0
    n_visits = N_VISITS if Need.VISITS in needs_of(model) else 1
    try:
        network = build_network(
            model,
            target=target,
            n_dims=len(shape),
            n_channels=n_visits,
            shape=shape,
            seed=0,
            n_covariates=n_covariates,
            n_visits=n_visits,
        ).eval()
    except ConfigError:
        return ["refused", "refused"]
    image = (n_visits, *shape)
    inputs = [image, (n_covariates,)] if n_covariates else [image]
    return [f"{n_parameters(network):,}", f"{n_flops(network, inputs) / 1e9:.2f}"]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table()), encoding="utf-8")
