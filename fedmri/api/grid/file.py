"""The file of a study: settings that all its runs share, and a grid or search of others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # it ships no types
from pydantic import ConfigDict, TypeAdapter, ValidationError

from fedmri.api.grid.search import Tune
from fedmri.config import as_overrides, as_value, load
from fedmri.errors import ConfigError, require, told
from fedmri.plan import Plan
from fedmri.settings.keys import refused_value
from fedmri.simulation.recipe import Recipe

Block = Mapping[str, Any]
"""By the dotted key of a setting: its values, a list of them."""


@dataclass(frozen=True)
class StudyFile:
    """What a study runs.

    Attributes:
        name: Of the study.
        settings: What all its runs share, as in a file for ``fedmri simulate --config``.
        grid: Lists of values by the dotted key of a setting. Every combination is a run. Several
            such sections in a list are gone through one after another.
        is_chosen: Whether each arm gets the values with its best score on validation patients. The
            report then shows the chosen models alone.
        recipe: A budget of steps and trials, instead of a grid: what is tried is ready, and chosen.
        tune: A search in place of a grid; each arm gets its best trial.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    settings: Block = field(default_factory=dict)
    grid: Block | list[Block] = field(default_factory=dict)
    is_chosen: bool = False
    recipe: Recipe | None = None
    tune: Tune | None = None

    def __post_init__(self) -> None:
        for block in self.blocks:
            for key, values in block.items():
                is_list = isinstance(values, list) and bool(values)
                require(is_list, f"grid.{key}", values, "a list of values")
        asked = {"grid": self.grid, "recipe": self.recipe, "tune": self.tune}
        found = [name for name, value in asked.items() if value]
        require(len(found) < 2, "grid", " and ".join(found), "one of grid, recipe, tune")

    @property
    def has_choice(self) -> bool:
        """Whether validation patients choose among the runs."""
        return self.is_chosen or self.recipe is not None or self.tune is not None

    @property
    def blocks(self) -> list[Block]:
        """The sections of the grid."""
        return self.grid if isinstance(self.grid, list) else [self.grid]

    def variants(self, plan: Plan | None = None) -> Iterator[dict[str, Any]]:
        """Yield the values of each run by the keys that vary.

        Args:
            plan: What a recipe changes; None takes that of the settings.
        """
        if self.recipe is not None:
            shared = plan or load([*as_overrides(self.settings)]).plan
            yield from map(dict, self.recipe.variants(shared))
            return
        for block in self.blocks:
            for values in itertools.product(*block.values()):
                yield dict(zip(block, values, strict=True))

    def overrides(self, variant: Mapping[str, Any]) -> list[str]:
        """Return the settings of a run as ``key=value``."""
        own = [f"{key}={as_value(value)}" for key, value in variant.items()]
        return [*as_overrides(self.settings), f"name={as_value(self.name)}", *own]


def read_study(path: Path) -> StudyFile:
    """Return the study of a YAML file.

    Raises:
        ConfigError: The file cannot be read (C04), or a value cannot be taken (C01).
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(StudyFile).validate_python({"name": path.stem, **values})
    except ValidationError as error:
        raise refused_value(error, f" of {path}", "") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        what, want = f"study {path}", "a YAML file with settings and a grid"
        fix = "write settings: and grid:, as in `fedmri study --help`"
        raise ConfigError("C04", what, found=told(error), want=want, fix=fix) from error
