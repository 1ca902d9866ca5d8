"""Tables harmonized from Python: the numbers of the command, and rows that come later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import fedmri
from tests.conftest import program

FEATURES = [f"v{k}" for k in range(4)]


@pytest.fixture
def frame() -> pd.DataFrame:
    """Return three sites of twenty rows, shifted by site, with an index that is not 0, 1, 2."""
    random = np.random.default_rng(0)
    site = np.repeat(["A", "B", "C"], 20)
    age = random.uniform(20, 80, 60)
    shift = np.repeat([0.0, 1.0, 2.0], 20)
    values = {name: 5 + shift + age / 30 + random.normal(size=60) for name in FEATURES}
    sex = np.tile(["M", "F"], 30)
    table = pd.DataFrame({"site": site, "age": age, "sex": sex, **values})
    return table.set_index(pd.Index(range(100, 160)))


def test_a_frame_and_the_command_have_the_same_numbers(frame: pd.DataFrame, tmp_path: Path) -> None:
    """To the bit, in the table, its parameters and its cautions; other columns are not touched."""
    found = fedmri.harmonize_table(frame, "site", covariates=["age", "sex"])
    frame.to_csv(tmp_path / "table.csv", index=False)
    words = ["harmonize", str(tmp_path / "table.csv"), "--site-column", "site"]
    more = ["--covariates", "age,sex", "--permutations", "19"]
    done = CliRunner().invoke(program(), [*words, *more])
    assert done.exit_code == 0, done.output
    written = pd.read_csv(tmp_path / "table.harmonized.csv")
    assert np.array_equal(found.frame[FEATURES].to_numpy(), written[FEATURES].to_numpy())
    saved = fedmri.TableHarmonizer.open(tmp_path / "table.harmonized.npz", "site")
    assert saved.version == found.harmonizer.version
    others = ["site", "age", "sex"]
    pd.testing.assert_frame_equal(found.frame[others], frame[others])
    assert not np.allclose(found.frame[FEATURES], frame[FEATURES])
    from_file = fedmri.harmonize_table(tmp_path / "table.csv", "site", covariates=["age", "sex"])
    assert np.array_equal(from_file.frame[FEATURES].to_numpy(), found.frame[FEATURES].to_numpy())


def test_single_precision_is_harmonized_as_the_numbers_that_it_holds(frame: pd.DataFrame) -> None:
    """A shorter way to write a number does not change it."""
    single = frame.astype(dict.fromkeys(FEATURES, "float32"))
    double = single.astype(dict.fromkeys(FEATURES, "float64"))
    one, two = (fedmri.harmonize_table(given, "site").frame[FEATURES] for given in (single, double))
    pd.testing.assert_frame_equal(one, two)


def test_rows_that_come_later_are_harmonized_by_the_saved_fit(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    """Rows of the fit come out as they did; a new site joins and is told."""
    found = fedmri.harmonize_table(frame, "site", covariates=["age"])
    found.save(tmp_path / "combat.npz")
    combat = fedmri.TableHarmonizer.open(tmp_path / "combat.npz", "site")
    some = frame.iloc[5:9]
    again = combat.apply(some)
    pd.testing.assert_frame_equal(again.frame, found.frame.iloc[5:9])
    assert again.cautions == ()
    joined = combat.apply(frame.assign(site="D"))
    assert {caution.code for caution in joined.cautions} >= {"H15"}
    assert "D" in joined.harmonizer.saved.effects


def test_how_well_the_site_is_told_is_measured_where_it_is_asked_for(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    """Less often after than before; the page shows it."""
    found = fedmri.harmonize_table(frame, "site", target="age")
    judged = found.judged(permutations=19)
    before, _, after = judged.decodability["Site from features"]
    assert after.accuracy < before.accuracy
    assert judged.predicted is not None
    found.report(tmp_path / "page.html", judged)
    assert found.harmonizer.version in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_empty_row_is_refused(frame: pd.DataFrame) -> None:
    """It would be lost between two rows, and all after it would be another patient's."""
    frame.iloc[3] = np.nan
    with pytest.raises(fedmri.FedmriError, match=r"1 empty rows, the first row 4.*\[H13\]"):
        fedmri.harmonize_table(frame, "site")


def test_a_frame_is_written_as_a_table(frame: pd.DataFrame, tmp_path: Path) -> None:
    """What pandas reads again is the harmonized frame."""
    found = fedmri.harmonize_table(frame, "site")
    found.write(tmp_path / "table.csv")
    read = pd.read_csv(tmp_path / "table.csv")
    assert np.array_equal(read[FEATURES].to_numpy(), found.frame[FEATURES].to_numpy())
