"""Label maps in which a hospital drew some classes and not others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fedmri.data.scans import Scan
from fedmri.round import Truth

if TYPE_CHECKING:
    import torch


def with_drawn(scans: Sequence[Scan], declared: Sequence[str]) -> list[Scan]:
    """Return scans that know which classes their hospital draws.

    Args:
        scans: The scans, with the sites that their source names.
        declared: ``SITE:CLASS|CLASS``, or ``CLASS|CLASS`` for all sites that are not named.
    """
    by_site: dict[str, tuple[str, ...]] = {}
    for text in declared:
        site, _, classes = text.rpartition(":")
        by_site[site.strip()] = tuple(name.strip() for name in classes.split("|"))
    return [replace(scan, drawn=by_site.get(scan.site, by_site.get(""))) for scan in scans]


def undrawn(truth: Truth) -> tuple[int, ...]:
    """Return the labels that were not drawn in a scan, of a truth with a flag for each class."""
    flags = truth if isinstance(truth, tuple) else ()
    return tuple(label for label, is_drawn in enumerate(flags, start=1) if not is_drawn)


def marked(labels: torch.Tensor, truths: Sequence[Truth]) -> torch.Tensor:
    """Return label maps whose background says what may be hidden in it.

    Where nothing was drawn, a voxel is background or any class that nobody looked for. It becomes
    ``-code``, and bit ``k - 1`` of the code stands for label ``k``.

    Args:
        labels: Shape ``(B, 1, *shape)``, int64.
        truths: Of each scan: a flag for each class, or a number where all were drawn.
    """
    import torch

    rows = []
    for own, truth in zip(labels, truths, strict=True):
        hidden = undrawn(truth)
        code = sum(1 << (label - 1) for label in hidden)
        is_open = torch.isin(own, torch.tensor([0, *hidden], device=own.device))
        rows.append(own.masked_fill(is_open, -code) if hidden else own)
    return torch.stack(rows)
