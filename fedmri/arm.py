"""The arms of a comparison as values, and how they are read as the rows of a table.

Whoever makes the arms writes them beside the results; nobody parses a label. A label is a name for
people, for records and for folders.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from fedmri.errors import UsageError, told
from fedmri.files import write_unsynced

ARMS = "arms.json"
"""File of a run folder that says what its arms are."""

Role: TypeAlias = Literal["federated", "pooled", "local", "linear", "table", "baseline"]
"""Who trains: sites together, all data in one place, one site alone; or a model without a network:
fixed features, covariates alone, or one that looks at nothing."""

Reading: TypeAlias = Literal["one", "by_site", "mean"]
"""How arms are read as one model: as the one that they are, each at the site that it is named for,
or as the mean over them."""

REFERENCES: tuple[Role, ...] = ("linear", "table", "baseline")
"""Models without a network, that no seed changes."""
PLAINEST = "fedavg"
"""Of several strategies this one comes first: the others are read against it."""

OWN = "local (own site)"
ALL = "local (all sites)"


@dataclass(frozen=True)
class Arm:
    """One model of a comparison, trained once for each seed.

    Attributes:
        role: Who trains.
        strategy: Strategy, where several are compared.
        site: Site that trains alone.
        left_out: Site that took no part, on all of whose patients the model is tested.
    """

    role: Role
    strategy: str = ""
    site: str = ""
    left_out: str = ""

    @property
    def label(self) -> str:
        """Name for people, records and folders."""
        if self.left_out:
            own = "" if self.role == "federated" else f"-{self.role}"
            return f"loso{own}:{self.left_out}"
        of = self.strategy or self.site
        return f"{self.role}:{of}" if of else self.role

    @property
    def home(self) -> str:
        """Site that the arm is named for: its own, or the one that it does not know."""
        return self.site or self.left_out


@dataclass(frozen=True)
class Group:
    """One row of the result table.

    Attributes:
        label: Its name.
        role: Who trained.
        arms: Labels of the arms behind it.
        reading: How they are read as one model.
        strategy: Strategy, where several are compared.
        is_left_out: Whether it answers at each site with a model that was trained without the site.
    """

    label: str
    role: Role
    arms: tuple[str, ...]
    reading: Reading = "one"
    strategy: str = ""
    is_left_out: bool = False

    @property
    def is_reference(self) -> bool:
        """Whether it is a model without a network."""
        return self.role in REFERENCES


@dataclass(frozen=True)
class Comparison:
    """All arms of a run, and the rows that they are read as.

    Attributes:
        arms: In the order in which they were made.
        groups: Rows, in the order of the table.
    """

    arms: tuple[Arm, ...]
    groups: tuple[Group, ...]
    _by_label: Mapping[str, Arm] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_label", {arm.label: arm for arm in self.arms})

    def arm(self, label: str) -> Arm:
        """Return the arm of a label; a run of one training in a deployment is federated."""
        return self._by_label.get(label, Arm("federated"))

    def group_of(self, label: str) -> Group | None:
        """Return the first row that an arm is in."""
        return next((group for group in self.groups if label in group.arms), None)


def compared(arms: Iterable[Arm]) -> Comparison:
    """Return arms as they are read unless a protocol says otherwise.

    Strategies, pooled data and references are rows of their own. The models of single sites are one
    row at home and one over all sites. Models without a site are one row.
    """
    every = tuple(arms)
    rows: list[Group] = []
    for role in ("federated", "pooled", "local", *REFERENCES):
        known = [arm for arm in every if arm.role == role and not arm.left_out]
        rows += _rows(role, known)
        if whole := [arm.label for arm in every if arm.role == role and arm.left_out]:
            label = f"{role} (site left out)"
            rows.append(Group(label, role, tuple(whole), "by_site", is_left_out=True))
    rows.sort(key=lambda group: group.is_reference and group.is_left_out)
    return Comparison(every, tuple(rows))


def _rows(role: Role, arms: Sequence[Arm]) -> Iterator[Group]:
    if role == "local":
        labels = tuple(sorted(arm.label for arm in arms))
        if labels:
            yield Group(OWN, role, labels, "by_site")
        if len(labels) > 1:
            yield Group(ALL, role, labels, "mean")
        return
    for arm in sorted(arms, key=lambda arm: (arm.strategy != PLAINEST, arm.strategy)):
        yield Group(arm.label, role, (arm.label,), strategy=arm.strategy)


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write the arms of a run folder."""
    values = {
        "arms": [asdict(arm) for arm in comparison.arms],
        "groups": [asdict(group) for group in comparison.groups],
    }
    write_unsynced(folder / ARMS, json.dumps(values, indent=1) + "\n")


def read_comparison(folder: Path) -> Comparison:
    """Return the arms of a run folder.

    Raises:
        UsageError: The file is missing (U10) or broken (U11).
    """
    path = folder / ARMS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        arms = TypeAdapter(tuple[Arm, ...]).validate_python(values["arms"])
        groups = TypeAdapter(tuple[Group, ...]).validate_python(values["groups"])
    except (FileNotFoundError, NotADirectoryError) as error:
        fix = "name the folder of a run of this version that has finished"
        what = f"run folder {folder}"
        raise UsageError("U10", what, found=f"no {ARMS}", want="it", fix=fix) from error
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        fix = f"restore {ARMS} or run the experiment again"
        want = "the arms of a run and the rows of its table"
        raise UsageError("U11", f"{path}", found=told(error), want=want, fix=fix) from error
    return Comparison(arms, groups)
