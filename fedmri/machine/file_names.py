"""Names of sites, arms and subjects as names of files: safe, short, and never two alike.

A name comes from a table and may hold a slash, two dots or 260 letters. It becomes a file only
through ``file_name``, and is read back from the index that ``write_names`` leaves beside the files.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from fedmri.errors import UsageError
from fedmri.machine.files import write_unsynced

INDEX = "names.json"
"""File of a run folder that says which name each file or folder of it stands for."""

PREFIX = re.compile(
    r"^(federated|local|personalised|votes|loso-(?:pooled|linear|baseline|personalised)|loso|external)-"
)
"""How a name begins whose colon was written as a hyphen: ``local-a`` is ``local:a``."""

PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
HASHED = re.compile(r".*-[0-9a-f]{10}")
TAKEN = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|sites|budgets|column)")
"""Devices of Windows, and lists that lie beside the sites' own files."""

N_READABLE, N_HASH = 40, 10


def file_name(label: str) -> str:
    """Return a name for the files of a site, an arm or a subject.

    A short name of small letters, digits, ``-`` and ``_`` stays as it is; ``local:a`` becomes
    ``local-a``. Any other keeps what can be kept and gets a hash of the whole. Capitals are among
    them, for not every disk tells ``GE`` from ``ge``.

    Args:
        label: Any text.

    Returns:
        At most 51 or 60 ASCII characters that begin with a letter or digit. Two labels never give
        names that are alike on any disk, up to a collision of 40 bits of SHA-256.
    """
    plain = label.replace(":", "-", 1)
    is_plain = PLAIN.fullmatch(plain) and not HASHED.fullmatch(plain)
    if is_plain and not TAKEN.fullmatch(plain) and label_of(plain) == label:
        return plain
    letters = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", letters).strip("-_")[:N_READABLE] or "name"
    digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{readable}-{digest[:N_HASH]}"


def label_of(plain: str) -> str:
    """Return the label that a plain name of a file stands for, where no index says it."""
    return PREFIX.sub(r"\1:", plain)


def write_names(folder: Path, labels: Iterable[str]) -> None:
    """Write the index of a run folder.

    Args:
        folder: Where it goes.
        labels: Every site and arm of the run.
    """
    names = {file_name(label): label for label in labels}
    text = json.dumps(dict(sorted(names.items())), indent=1, ensure_ascii=True)
    write_unsynced(folder / INDEX, f"{text}\n")


def read_names(folder: Path) -> dict[str, str]:
    """Return labels by the names of their files; empty for a run folder that has no index.

    Raises:
        UsageError: The index is broken (U11).
    """
    path = folder / INDEX
    if not path.is_file():
        return {}
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
            raise ValueError(f"a {type(names).__name__} of other things than names")
    except (OSError, ValueError) as error:
        fix = f"remove {INDEX}: names that were not changed are found without it"
        want = "a JSON object of names"
        raise UsageError("U11", f"{path}", found=str(error), want=want, fix=fix) from error
    return {str(file): label for file, label in names.items()}
