"""Tables that are not as they should be are answered with what puts them right."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmri.data.bids.tables import read_table
from fedmri.errors import DataError


@pytest.mark.parametrize(
    ("header", "fix"),
    [
        ("participant_id,site,age", "write the table with tabs in place of commas"),
        ('"participant_id";"site"', "write the table with tabs in place of semicolons"),
        ("participant_id site", "write the table with tabs in place of spaces"),
        ("Participant ID\tsite", "rename the column 'Participant ID'"),
        ("PARTICIPANT-ID\tsite", "rename the column 'PARTICIPANT-ID'"),
        ("name,site", "add the column 'participant_id'"),
        ("name\tsite", "add the column 'participant_id'"),
    ],
)
def test_a_table_without_its_key_is_answered_with_what_mends_it(
    header: str, fix: str, tmp_path: Path
) -> None:
    """Another separator and another spelling are not a missing column."""
    path = tmp_path / "participants.tsv"
    path.write_text(f"{header}\nsub-1\tA\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"\[D05\]") as caught:
        read_table(path, "participant_id")
    assert f"To fix: {fix}." in str(caught.value)


def rows_of(folder: Path, text: str) -> tuple[list[dict[str, str]], list[str]]:
    """Return the rows of a table, and what is said of it."""
    path = folder / "participants.tsv"
    path.write_bytes(text.encode())
    table = read_table(path, "participant_id")
    return [dict(row) for row in table.rows], [finding.reason for finding in table.findings]


def test_cells_in_quotes_say_what_is_in_them(tmp_path: Path) -> None:
    """R writes quotes around texts unless it is told not to; a tab inside them parts nothing."""
    text = '"participant_id"\t"site"\n"sub-1"\t"A\tB"\n"sub-2"\t"the ""new"" one"\n'
    rows = [
        {"participant_id": "sub-1", "site": "A\tB"},
        {"participant_id": "sub-2", "site": 'the "new" one'},
    ]
    assert rows_of(tmp_path, text) == (rows, [])


def test_a_quote_that_nobody_closed_ends_with_its_line(tmp_path: Path) -> None:
    """An inch mark must not take the rows below with it."""
    text = 'participant_id\tcoil\nsub-1\t"5 in\nsub-2\t5"\n'
    rows = [
        {"participant_id": "sub-1", "coil": '"5 in'},
        {"participant_id": "sub-2", "coil": '5"'},
    ]
    assert rows_of(tmp_path, text) == (rows, [])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_row_that_does_not_fit_is_named_by_its_line(end: str, tmp_path: Path) -> None:
    """Lines are counted as an editor counts them, empty ones among them."""
    text = end.join(["participant_id\tage", "", "sub-1\t007", "sub-2", "\t", "sub-3\t7,5"])
    rows = [{"participant_id": "sub-1", "age": "007"}, {"participant_id": "sub-3", "age": "7,5"}]
    said = ["line 4 of participants.tsv has 1 cells, the header 2"]
    assert rows_of(tmp_path, text) == (rows, said)
