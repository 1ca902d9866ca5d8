"""What is to be predicted, in the words of a notebook."""

from __future__ import annotations

from collections.abc import Sequence

from fedmri.round import Target


def Segmentation(name: str, classes: Sequence[str], labels: Sequence[str] = ()) -> Target:  # noqa: N802  # reads as a kind of target
    """Return a label map as the target.

    Args:
        name: Name of the derivative, such as ``mask``.
        classes: Names of the classes but background, in the order of their numbers.
        labels: What values of the label map mean, as ``VALUE:CLASS``; empty takes them as classes.

    Raises:
        ConfigError: A name is empty or repeated (C01).
    """
    return Target("segmentation", name, tuple(classes), tuple(labels))


def Classification(column: str, classes: Sequence[str]) -> Target:  # noqa: N802
    """Return a column of the subject table with two classes or more as the target.

    Args:
        column: Its name.
        classes: Its values, in the order of the network's outputs.

    Raises:
        ConfigError: There are fewer than two classes, or one is repeated (C01).
    """
    return Target("classification", column, tuple(classes))


def Regression(column: str) -> Target:  # noqa: N802
    """Return a column of numbers of the subject table as the target.

    Raises:
        ConfigError: The name is empty (C01).
    """
    return Target("regression", column)
