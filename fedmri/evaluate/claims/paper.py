"""A file of claims: what a paper says of its results and methods."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # it ships no types

from fedmri.errors import UsageError, told
from fedmri.evaluate.claims.stated import Stated, count, share, stated, unreadable

SHARES = (
    "accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "npv", "f1", "auc",
    "dice", "prevalence", "internal", "external", "drop", "ece",
)  # fmt: skip
NUMBERS = ("r", "r2", "size_mb")
COUNTS = (
    "n", "n_positive", "n_negative", "n_internal", "n_external", "n_train", "epochs", "iterations",
    "total", "parameters",
)  # fmt: skip
WORDS = ("name", "model", "network", "average", "metric")
PAIRS = ("accuracy_interval", "auc_interval", "sensitivity_interval", "specificity_interval")
OTHER_NAMES = {
    "acc": "accuracy", "auroc": "auc", "f1_score": "f1", "n_test": "n", "ppv": "precision",
    "recall": "sensitivity", "sens": "sensitivity", "spec": "specificity",
}  # fmt: skip
AVERAGES = ("none", "folds", "macro", "weighted")


class _Texts(yaml.BaseLoader):  # type: ignore[misc]  # yaml ships no types
    """Reads every scalar as text, and refuses a key that is there twice: one would be lost."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """Return a mapping whose keys are all different."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if doubled := {str(key) for key in keys if keys.count(key) > 1}:
            text = f"key {', '.join(sorted(doubled))} twice in one place"
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark)
        return dict(super().construct_mapping(node, deep))


@dataclass(frozen=True)
class Claim:
    """One row of a paper's results.

    Attributes:
        name: For people.
        shares: Such as ``accuracy``, as values between 0 and 1.
        numbers: Such as ``r``.
        counts: Such as ``n``.
        words: Such as ``network``.
        pairs: Both ends of intervals.
        parts: Sizes of the parts of a split.
    """

    name: str
    shares: Mapping[str, Stated] = field(default_factory=dict)
    numbers: Mapping[str, Stated] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    pairs: Mapping[str, tuple[Stated, Stated]] = field(default_factory=dict)
    parts: tuple[int, ...] = ()

    @property
    def is_average(self) -> bool:
        """Whether its numbers are means over folds or classes, and not those of one table."""
        return self.words.get("average", "none") != "none"


@dataclass(frozen=True)
class Paper:
    """A paper's claims and what it says of its methods."""

    claims: tuple[Claim, ...]
    methods: Mapping[str, str] = field(default_factory=dict)


def claim_of(values: Mapping[str, Any], name: str = "claim") -> Claim:
    """Return a claim from a mapping; numbers should be texts, so that zeros at the end count.

    Args:
        values: Such as ``{"n": 38, "accuracy": "99 %"}``.
        name: Used where the mapping has none.

    Raises:
        UsageError: A key is not known, or a value cannot be read (U81).
    """
    given = {OTHER_NAMES.get(key, key): value for key, value in values.items()}
    known = (*SHARES, *NUMBERS, *COUNTS, *WORDS, *PAIRS, "parts")
    if strange := sorted(set(map(str, given)) - set(known)):
        raise unreadable("a claim", f"{', '.join(strange)}", f"keys among {', '.join(known)}")
    words = {key: str(given[key]) for key in WORDS if key in given}
    if (average := words.get("average", "none")) not in AVERAGES:
        raise unreadable("average of a claim", repr(average), f"one of {', '.join(AVERAGES)}")
    return Claim(
        name=words.get("name", words.get("model", name)),
        shares={key: share(key, str(given[key])) for key in SHARES if key in given},
        numbers={key: stated(key, str(given[key])) for key in NUMBERS if key in given},
        counts={key: count(key, str(given[key])) for key in COUNTS if key in given},
        words=words,
        pairs={key: _pair(key, given[key]) for key in PAIRS if key in given},
        parts=tuple(count("parts", str(part)) for part in _listed("parts", given.get("parts", []))),
    )


def _listed(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise unreadable(f"{key} of a claim", repr(value), "a list of numbers")
    return list(value)


def _pair(key: str, value: Any) -> tuple[Stated, Stated]:
    ends = _listed(key, value)
    if len(ends) != 2:
        raise unreadable(f"{key} of a claim", f"{len(ends)} numbers", "two, such as [0.88, 0.94]")
    return share(key, str(ends[0])), share(key, str(ends[1]))


def read_paper(path: str | os.PathLike[str]) -> Paper:
    """Read a file of claims.

    Args:
        path: YAML with ``claims``, a list, and ``methods``, a mapping; one of them may be absent.

    Raises:
        UsageError: It cannot be read, or says something that is not known (U81).
    """
    where = Path(path)
    try:
        # Every scalar as text: 99.20 claims more than 99.2.
        values = yaml.load(where.read_text(encoding="utf-8"), Loader=_Texts)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise unreadable(f"file {where}", told(error), "YAML") from error
    if not isinstance(values, dict) or not values.keys() <= {"paper", "claims", "methods"}:
        raise unreadable(f"file {where}", "another form", "the keys paper, claims and methods")
    return paper_of(values)


def paper_of(values: Mapping[str, Any]) -> Paper:
    """Return a paper from a mapping with ``claims`` and ``methods``.

    Raises:
        UsageError: It says something that is not known (U81).
    """
    rows, methods = values.get("claims") or [], values.get("methods") or {}
    is_good = isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)
    if not is_good or not isinstance(methods, Mapping) or not (rows or methods):
        raise unreadable("claims", "another form", "claims: a list; methods: a mapping")
    claims = tuple(_numbered(row, i) for i, row in enumerate(rows, start=1))
    return Paper(claims, {str(key): str(value) for key, value in methods.items()})


def _numbered(row: Mapping[str, Any], number: int) -> Claim:
    """Return a claim; the error of one that cannot be read says which it is."""
    try:
        return claim_of(row, f"claim {number}")
    except UsageError as error:
        error.add_note(f"in claim {number}, {row.get('name', 'without a name')}")
        raise
