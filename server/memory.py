"""Memory that is given back: the peak of a process is then what it holds at once, and no more."""

from __future__ import annotations

import ctypes
import sys

MMAP_THRESHOLD = -3
"""``M_MMAP_THRESHOLD`` of glibc's ``mallopt(3)``."""

LARGE = 1 << 20


def return_large_blocks() -> None:
    """Ask glibc to give each block of 1 MB or more back to the system when it is freed.

    By default it raises that bound with every large block that it sees, up to 32 MB, and keeps
    what is smaller: the pieces of 5 MB in which weights travel would add up from site to site.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries of C have none
        if mallopt is not None:
            mallopt(MMAP_THRESHOLD, LARGE)
