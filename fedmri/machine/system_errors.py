"""What the system refuses, said as the owner of a machine would say it."""

from __future__ import annotations

import errno
import os

from fedmri.errors import UsageError

MEANING = {
    errno.ENOSPC: ("the disk is full", "free space, or choose a folder on another disk"),
    errno.EDQUOT: ("the quota of the disk is used up", "free space, or ask for more"),
    errno.EFBIG: ("a file would be larger than allowed", "raise the limit (ulimit -f)"),
    errno.EROFS: ("the disk is read-only", "choose a folder that can be written"),
    errno.EACCES: ("no permission", "change the rights, or choose a folder of your own"),
    errno.EPERM: ("no permission", "change the rights, or choose a folder of your own"),
    errno.ENAMETOOLONG: ("a name that is too long", "choose a shorter name or folder"),
    errno.ENOTDIR: ("a file where a folder should be", "name a folder"),
    errno.EISDIR: ("a folder where a file should be", "name a file"),
    errno.ENOENT: ("no such file or folder", "correct the path, or make the folder"),
    errno.ELOOP: ("links that lead in a circle", "remove the link, or let it lead to a file"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many open files", "close other programs"),
    errno.EIO: ("the disk cannot be read or written", "check the disk and its connection"),
    errno.ESTALE: ("the network disk was lost", "mount it again"),
}

N_SHOWN = 200
"""Letters of a path that a message shows."""


def as_usage_error(error: OSError) -> UsageError | None:
    """Return what the system refused as an error with a way out; None for what is a bug.

    Args:
        error: As it reached the outermost frame of a command.
    """
    number = error.errno
    if number not in MEANING:
        return None
    found, fix = MEANING[number]
    names = [name for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    place = os.fsdecode(names[0]) if names else ""
    shown = place.encode(errors="backslashreplace").decode()
    if len(shown) > N_SHOWN:
        shown = f"{shown[:N_SHOWN]}..."
    what = f"file or folder {shown}" if shown else "writing a file"
    return UsageError("U01", what, found=found, want="one that can be used", fix=fix)
