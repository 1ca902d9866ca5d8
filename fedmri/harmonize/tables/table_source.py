"""A table of subjects on disk: read as numbers, and written again with features harmonized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fedmri.errors import HarmonizeError
from fedmri.harmonize.cautions import Caution
from fedmri.harmonize.combat.site_table import Array
from fedmri.harmonize.tables.numerals import legible
from fedmri.harmonize.tables.table import Cohort
from fedmri.harmonize.tables.table_file import TableFile, read_table, table_of_frame


@dataclass(frozen=True)
class Source:
    """A table as it is written, and as it is understood.

    Attributes:
        path: Its file.
        file: Every cell as it is written.
        frame: Every cell a text; numbers with a decimal point; codes for missing are empty.
        marks: Decimal mark of columns that are written with another one.
        unclear: Columns whose numbers can be read in two ways, with the first such value.
        cautions: What the reader of the result must be told.
    """

    path: Path
    file: TableFile
    frame: pd.DataFrame
    marks: Mapping[str, str]
    unclear: Mapping[str, str]
    cautions: tuple[Caution, ...]

    def write(self, path: Path, found: Cohort, clean: Array) -> None:
        """Write the table with harmonized features; whatever did not change keeps its bytes.

        Args:
            path: Where to.
            found: Features as they were.
            clean: As they are now, ``(n, p)``; NaN is written as nothing.
        """
        new: dict[str, list[str | None]] = {}
        for k, name in enumerate(found.features):
            before, after = found.values[:, k], clean[:, k]
            is_same = (before == after) | (np.isnan(before) & np.isnan(after))
            mark = self.marks.get(name, ".")
            new[name] = [
                None if same else "" if np.isnan(value) else repr(float(value)).replace(".", mark)
                for same, value in zip(is_same.tolist(), after.tolist(), strict=True)
            ]
        self.file.write(path, new, self.path.suffix)


def read(path: Path, decimal: str = "", missing: tuple[str, ...] = ()) -> Source:
    """Read a table of subjects.

    Args:
        path: A file of text.
        decimal: Decimal mark where the user names it, ``.`` or ``,``.
        missing: Further texts that stand for missing values.

    Raises:
        HarmonizeError: It is no table of text (H28), or no table (H11).
    """
    _refuse_other_mark(decimal)
    return _source(path, read_table(path), decimal, missing)


def of_frame(frame: pd.DataFrame, decimal: str = "", missing: tuple[str, ...] = ()) -> Source:
    """Take a table of subjects that is in memory, as if it had been written and read.

    Args:
        frame: A row each; numbers that are numbers stay the same to the bit.
        decimal: Decimal mark of numbers that are texts; a point where nothing is said.
        missing: Further texts that stand for missing values.

    Raises:
        HarmonizeError: A row is empty (H13), or two columns have one name (H11).
    """
    _refuse_other_mark(decimal)
    empty = np.flatnonzero(frame.isna().all(axis=1))
    if empty.size:
        found, want = f"{empty.size} empty rows, the first row {empty[0] + 1}", "one in each row"
        raise HarmonizeError("H13", "site", found=found, want=want, fix="leave these rows out")
    return _source(Path("DataFrame"), table_of_frame(frame), decimal or ".", missing)


def _source(path: Path, file: TableFile, decimal: str, missing: tuple[str, ...]) -> Source:
    found = legible(file.frame, file.separator, decimal, missing)
    cautions = (*file.cautions, *found.cautions)
    return Source(path, file, found.frame, found.marks, found.unclear, cautions)


def _refuse_other_mark(decimal: str) -> None:
    if decimal not in ("", ".", ","):
        fix = "say --decimal . or --decimal ,"
        raise HarmonizeError("H33", "--decimal", found=decimal, want="a point or a comma", fix=fix)
