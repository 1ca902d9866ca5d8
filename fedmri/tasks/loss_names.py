"""Which losses a task has: the choice of one by its name."""

from __future__ import annotations

from collections.abc import Sequence

from fedmri.errors import ConfigError


def loss_name(chosen: str, names: Sequence[str], title: str) -> str:
    """Return the loss of a task, ``auto`` resolved to its first.

    Raises:
        ConfigError: It is none of the task's own (C22).
    """
    if chosen == "auto":
        return names[0]
    if chosen not in names:
        want = f"a loss for {title}"
        fix = f"set target.loss to auto or one of {', '.join(names)}"
        raise ConfigError("C22", "setting target.loss", found=chosen, want=want, fix=fix)
    return chosen
