"""A process that another one started, and that has no purpose without it.

    python -m fedmri.machine.child PROGRAM [ARGUMENT]...

runs a program so; a process with threads cannot safely prepare its child otherwise.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux to kill this process when the one that started it is killed; else do nothing.

    An orphan would hold keys and connections, and write beside its successor.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    os.execv(sys.argv[1], sys.argv[1:])
