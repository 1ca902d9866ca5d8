"""Files of which only a pointer is there: git-annex, DataLad and Git LFS fetch content later."""

from __future__ import annotations

from pathlib import Path

from fedmri.errors import DataError

N_LOOKED_AT = 256
LFS = b"version https://git-lfs.github.com/spec/"
ANNEX = (b"/annex/objects/", b"../.git/annex/objects/", b".git/annex/objects/")


def fetched_by(path: Path) -> str:
    """Return the command that fetches the content of a pointer; empty for a file of its own."""
    try:
        if path.is_symlink() and not path.exists():
            return "git annex get" if "annex/objects" in str(path.readlink()) else ""
        if not path.is_file() or path.stat().st_size > 2**16:
            return ""
        with path.open("rb") as stream:
            start = stream.read(N_LOOKED_AT)
    except OSError:
        return ""
    if start.startswith(LFS):
        return "git lfs pull"
    is_annex = start.startswith(ANNEX) or (b".git/annex/objects/" in start and b"\0" not in start)
    return "git annex get" if is_annex else ""


def refuse_pointer(path: Path, what: str = "file") -> None:
    """Raise DataError D58 where only a pointer to the content of a file is there.

    Args:
        path: The file.
        what: What the error calls it.
    """
    command = fetched_by(path)
    if command:
        found, want = "a pointer, and no content", "the file itself"
        fix = f"run `{command}` in the folder of the data set"
        raise DataError("D58", what, found=found, want=want, fix=fix)
