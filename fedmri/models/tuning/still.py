"""Which entries of a network stand still in a round, by the names of its parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fedmri.errors import ConfigError

REST = "*"
"""Stands for all but the last layer and what is named."""


def still_at(
    round_index: int, entries: Collection[str], head: Collection[str], thaws: Mapping[str, int]
) -> frozenset[str]:
    """Return the entries that neither move nor travel in a round.

    Args:
        round_index: Round; 0 is before the first, and is as that.
        entries: Parameters and buffers of the network.
        head: Those of its last layer.
        thaws: First round in which a part is trained, by its name; 0 is never.
    """
    rounds = {name: thaws[part] for name in entries if (part := _part(name, head, thaws))}
    return frozenset(n for n, first in rounds.items() if not first or first > max(1, round_index))


def refuse_unknown(entries: Collection[str], thaws: Mapping[str, int]) -> None:
    """Refuse a name that no part of the network has (C01)."""
    for part in thaws.keys() - {REST}:
        if not any(_is_in(name, part) for name in entries):
            own = ", ".join(dict.fromkeys(name.partition(".")[0] for name in entries))
            want = f"a part of the network, such as one of {own}; or {REST}"
            fix = "set train.frozen to names of parts"
            raise ConfigError("C01", "setting train.frozen", found=part, want=want, fix=fix)


def _part(name: str, head: Collection[str], thaws: Mapping[str, int]) -> str:
    """Return the longest part that an entry lies in, or nothing."""
    rest = REST if REST in thaws and name not in head else ""
    return max((part for part in thaws if _is_in(name, part)), key=len, default=rest)


def _is_in(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
