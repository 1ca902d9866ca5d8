"""Tables that are not as they should be are answered with what puts them right."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmri.data.tables import read_table
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
