"""Tables of features whose sites, rows or covariates are not what they seem."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.tables.table import Columns, cohort
from fedmri.harmonize.tables.table_source import read
from fedmri.harmonize.tables.table_work import Work, harmonized
from tests.reports_of_others.test_tables import SITES, VOLUME, N, frame_of, written


def cautions(folder: Path, table: pd.DataFrame | str, **named: tuple[str, ...]) -> dict[str, str]:
    """Harmonize a table, and return what is told, by code."""
    text = table if isinstance(table, str) else table.to_csv(index=False)
    source = read(written(folder, text))
    found = cohort(source.frame, Columns("site", unclear=source.unclear, **named))  # type: ignore[arg-type]  # as a test says
    stage = ComBat(len(found.features), found.columns, n_min=2)
    work = Work(source, found, stage, np.array([]), None)
    told = harmonized(work, None, may_exclude=False).cautions
    return {caution.code: caution.text for caution in told}


def with_sites(*names: str) -> pd.DataFrame:
    """Return the table with other names in the first rows of its first site."""
    frame = frame_of()
    frame.loc[: len(names) * 3 - 1, "site"] = [name for name in names for _ in range(3)]
    return frame


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("X-1", "X\u20131"),
        ("Z\u00fcrich", "Zurich"),
        ("site 1", "site01"),
        ("Aachen", "\u0410achen"),
        ("UKE", "uke "),
    ],
)
def test_spellings_of_one_site_are_no_two_sites(one: str, other: str, tmp_path: Path) -> None:
    """A dash, an accent or a zero makes no second scanner, which would be corrected twice.

    Source: rpomponio/neuroHarmonize#57 (columns that were coded in two ways).
    """
    with pytest.raises(HarmonizeError, match=r"want one name a site.*\[H37\]"):
        cautions(tmp_path, with_sites(one, other))


def test_marks_that_nobody_sees_make_no_site(tmp_path: Path) -> None:
    """A zero width at the end of a name is no part of it."""
    assert cautions(tmp_path, with_sites("A\u200b", "\ufeffA")) == {}


@pytest.mark.parametrize(
    "word", ["unknown", "-999", "Missing", "TBD", "#REF!", "not recorded", "To be  determined"]
)
def test_words_for_no_site_are_no_scanner(word: str, tmp_path: Path) -> None:
    """Rows of many unknown scanners are not harmonized as those of one."""
    with pytest.raises(HarmonizeError, match=r"3 rows without one, the first row 1.*\[H13\]"):
        cautions(tmp_path, with_sites(word))


@pytest.mark.parametrize("word", ["Mean", "Total", "SD", "Summe"])
def test_a_row_that_sums_up_the_others_is_no_subject(word: str, tmp_path: Path) -> None:
    """A spreadsheet's last row would be a hospital of one patient."""
    text = frame_of().to_csv(index=False) + f"{word},2.5,3500\n"
    with pytest.raises(HarmonizeError, match=rf"'{word}' in row {N + 1}.*\[H13\]"):
        cautions(tmp_path, text)


COVARIATES: dict[str, tuple[Sequence[object], str]] = {
    "an age above a limit": ([*range(40, 40 + N - 1), ">89"], "'>89' in row 24"),
    "an age in words": ([*range(40, 40 + N - 1), "45 years"], "'45 years' in row 24"),
    "dates": (pd.date_range("2020-01-01", periods=N).astype(str).tolist(), "24 different texts"),
    "M and m": (["M", "F", "m", "F"] * (N // 4), "'M' and 'm'"),
    "accents": (["f\u00e9minin", "feminin"] * (N // 2), "feminin"),
}


@pytest.mark.parametrize("name", COVARIATES)
def test_a_covariate_of_two_kinds_is_refused(name: str, tmp_path: Path) -> None:
    """One word among ages would make a category of each age, and take its effect away in silence.

    Source: loosolab/scanpro#4 (an age that became a category), brentp/combat.py#10.
    """
    values, word = COVARIATES[name]
    with pytest.raises(HarmonizeError, match=rf"covariate 'age'.*{word}.*\[H11\]"):
        cautions(tmp_path, frame_of(age=values), covariates=("age",))


def test_codes_that_are_kept_as_numbers_are_told(tmp_path: Path) -> None:
    """1, 2 and 3 of a diagnosis are no amounts.

    Source: weizhouUMICH/SAIGE#4, CBIIT/R-cometsAnalytics#19.
    """
    frame = frame_of(diagnosis=[1, 2, 3] * (N // 3))
    assert "diagnosis" in cautions(tmp_path, frame, covariates=("diagnosis",))["H30"]
    said = cautions(tmp_path, frame, covariates=("diagnosis",), categorical=("diagnosis",))
    assert "H30" not in said


@pytest.mark.parametrize("values", [[1, 2] * (N // 2), range(40, 40 + N)])
def test_numbers_are_not_asked_about(values: Sequence[object], tmp_path: Path) -> None:
    """Two values are the same either way, and an age is a number."""
    assert "H30" not in cautions(tmp_path, frame_of(age=list(values)), covariates=("age",))


def test_rows_that_are_there_twice_are_told(tmp_path: Path) -> None:
    """A block that was pasted in twice counts twice."""
    frame = frame_of()
    said = cautions(tmp_path, pd.concat([frame, frame.iloc[:5]]))
    assert said["H29"].startswith("5 rows repeat another one in every cell, the first is row 25")


def test_other_units_at_a_site_are_told(tmp_path: Path) -> None:
    """One site writes cm³ and the other mm³: that is no effect of a scanner."""
    frame = frame_of()
    frame["hippo_vol"] = np.where(SITES == "B", VOLUME / 1000, VOLUME)
    assert "hippo_vol (" in cautions(tmp_path, frame)["H35"]
    assert cautions(tmp_path, frame_of()) == {}


@pytest.mark.parametrize("text", ["#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "NaT", "not available"])
def test_a_cell_that_a_spreadsheet_could_not_compute_is_missing(text: str, tmp_path: Path) -> None:
    """It costs one value and not the whole column.

    Source: Jfortin1/neuroCombat#28.
    """
    frame = frame_of().astype(str)
    frame.loc[3, "thickness"] = text
    source = read(written(tmp_path, frame.to_csv(index=False)))
    found = cohort(source.frame, Columns("site"))
    assert found.features == ("thickness", "hippo_vol")
    assert np.isnan(found.values[3, 0])


@pytest.mark.parametrize("cell", ["2.5 mm", "'2.5", "<0.1", "1,23,456.5", "(2.5)", "\u22122.5"])
def test_numbers_with_something_around_them_are_told(cell: str, tmp_path: Path) -> None:
    """A measure that is left out because of a unit or a sign is named."""
    frame = frame_of(volume=[cell] * N)
    assert "'volume' was left as it is" in cautions(tmp_path, frame)["H11"]


HEADERS = {
    "groups above the names": (",Left,\n", "remove the lines above"),
    "a title": ("Export of study ABC\n", "remove the lines above"),
    "a title of three": ("Export,of,today\n", "remove the lines above"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_lines_above_the_header_are_told(name: str, tmp_path: Path) -> None:
    """The advice is not to name columns "Unnamed: 0"."""
    above, words = HEADERS[name]
    with pytest.raises(HarmonizeError, match=rf"{words}.*\[H11\]"):
        cautions(tmp_path, above + frame_of().to_csv(index=False))


def test_a_row_of_units_is_told(tmp_path: Path) -> None:
    """Where one row makes text of all columns, its first cell is shown."""
    first, *rest = frame_of().to_csv(index=False).splitlines()
    text = "\n".join([first, "A,mm,mm3", *rest])
    with pytest.raises(HarmonizeError, match=r"first 'mm' in row 1.*\[H11\]"):
        cautions(tmp_path, text)
