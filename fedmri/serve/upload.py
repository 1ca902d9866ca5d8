"""An upload as files: received and unpacked within bounds, under names that can do no harm."""

from __future__ import annotations

import errno
import re
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

from fedmri.data.files.pictures import PICTURES
from fedmri.errors import DataError
from fedmri.serve.limits import Limits
from fedmri.trained.inputs import NIFTI

ARCHIVE = ".zip"
MOST_FILES = 20_000
CHUNK_BYTES = 2**20
LONGEST_NAME = 150
"""Letters of an upload's name: names of results are longer, and disks take 255 bytes."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
UNREADABLE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError)
"""What zipfile raises about damage, a password or a method that it does not know."""


async def received(stream: AsyncIterator[bytes], path: Path, limits: Limits) -> None:
    """Write an upload to a file as it comes.

    Raises:
        DataError: It has more bytes than it may (D88); the rest is not read.
    """
    n_bytes = 0
    with path.open("xb") as file:
        async for chunk in stream:
            n_bytes += len(chunk)
            if n_bytes > limits.n_bytes:
                raise _too_large(f"more than {limits.upload_mb} MB", f"{limits.upload_mb} MB")
            file.write(chunk)


def safe_name(name: str) -> str:
    """Return the name of an upload without folders and odd characters.

    Raises:
        DataError: It is no scan and no zip file, or too long to be a file's name (D84).
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(name.replace("\\", "/")).name)
    endings = (*NIFTI, *sorted(PICTURES), ARCHIVE)
    if not plain.lower().endswith(endings) or plain.startswith("."):
        want = f"a name that ends with one of {', '.join(endings)}"
        fix = "put a DICOM series, or several modalities, into a zip file"
        raise DataError("D84", "upload", found=plain or "no name", want=want, fix=fix)
    if len(plain) > LONGEST_NAME:
        found, want = f"a name of {len(plain)} letters", f"at most {LONGEST_NAME}"
        raise DataError("D84", "upload", found=found, want=want, fix="give it a shorter name")
    return plain


def unpacked(path: Path, folder: Path, limits: Limits) -> Path:
    """Return what an upload holds: the file itself, or the folder of an unpacked zip file.

    Raises:
        DataError: The zip file is damaged, or names places outside of it (D84), or it unpacks
            to more than it may (D88).
        OSError: The disk is full.
    """
    if not path.name.lower().endswith(ARCHIVE):
        return path
    folder.mkdir()
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            if len(members) > MOST_FILES:
                raise _too_large(f"{len(members)} files", f"{MOST_FILES} files")
            left = limits.n_unpacked_bytes
            for member in members:
                left = _extract(archive, member, folder, left)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        found = f"a zip file that cannot be read ({type(error).__name__})"
        raise _no_archive(found) from error
    path.unlink()
    return folder


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, left: int) -> int:
    """Write a member; return how many bytes are left. Its own claim of a size is not believed."""
    parts = PurePosixPath(member.filename).parts
    if not parts or ".." in parts or PurePosixPath(member.filename).is_absolute():
        raise _no_archive("a file with a place outside of the zip file")
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise _too_large("a zip file of more", "four times the limit once unpacked")
            file.write(chunk)
    return left


def _too_large(found: str, want: str) -> DataError:
    fix = "send less at once, or start the service with a larger --upload-mb"
    return DataError("D88", "upload", found=found, want=f"at most {want}", fix=fix)


def _no_archive(found: str) -> DataError:
    fix = "zip the folder again"
    return DataError("D84", "upload", found=found, want="a zip file of scans", fix=fix)
