"""Tables as people write them: what is a site, a number, a category, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat.combat_table import harmonize, saved_of
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.sums import version
from fedmri.harmonize.tables.table import Cohort, Columns, cohort
from fedmri.harmonize.tables.table_source import read

DIRTY = """\
participant_id,site,age,dx,scanner_number,vol a,vol b,note
a_1, A ,61,CN,1,1.50,100,x
a_2,A,n/a,AD,1,NaN,101,
b_1,B,40,,2,2,n/a,"y,z"
b_2,B,55.5,MCI,2,1e1,104,z
"""


def made(text: str, folder: Path, name: str = "table.csv") -> Path:
    """Write a table."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def two_sites(n: int = 20, seed: int = 0) -> Cohort:
    """Return a cohort of two sites with as many rows each, three features and age."""
    rng = np.random.default_rng(seed)
    sites = np.repeat(["A", "B"], n)
    values = rng.normal(size=(2 * n, 3)) + 3 * (sites == "B")[:, None]
    return Cohort(sites, ("x", "y", "z"), values, ("age",), rng.uniform(20, 80, (2 * n, 1)))


def test_a_dirty_table_gives_what_a_reader_takes_from_it(tmp_path: Path) -> None:
    """Blanks around sites, many words for missing, categories, and numbers that are no features."""
    found = cohort(read(made(DIRTY, tmp_path)).frame, Columns("site", covariates=("age", "dx")))
    assert found.sites.tolist() == ["A", "A", "B", "B"]
    assert found.features == ("vol a", "vol b")  # neither text nor a site's own number
    np.testing.assert_array_equal(found.values[:, 0], [1.5, np.nan, 2, 10])
    assert found.columns == ("age", "dx=CN", "dx=MCI")
    np.testing.assert_array_equal(found.covariates[:, 0], [61, np.nan, 40, 55.5])
    np.testing.assert_array_equal(found.covariates[:, 1], [1, 0, np.nan, 0])


def test_numbers_may_be_names_of_categories(tmp_path: Path) -> None:
    """A diagnosis written 1, 2, 3 has no order."""
    text = "s,dx,f\n" + "".join(f"{'ab'[k % 2]},{k % 3 + 1},{k}\n" for k in range(6))
    columns = Columns("s", covariates=("dx",), categorical=("dx",), features=("f",))
    assert cohort(read(made(text, tmp_path)).frame, columns).columns == ("dx=2", "dx=3")


def test_a_site_is_taken_from_a_name_by_a_pattern(tmp_path: Path) -> None:
    """Where subjects are called Oulu_sub01, their site needs no column."""
    text = "sub_id,f\nAnn_a_sub01,1\nOulu_sub02,2\n"
    frame = read(made(text, tmp_path)).frame
    assert cohort(frame, Columns("sub_id", "^(.*)_sub")).names == ("Ann_a", "Oulu")
    with pytest.raises(HarmonizeError, match=r"found 1 rows without one, the first row 2.*H13"):
        cohort(frame, Columns("sub_id", "^(Ann_.)_sub"))
    with pytest.raises(HarmonizeError, match="H13"):
        cohort(frame, Columns("sub_id", "^(.*_sub"))


def test_the_rest_of_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    """Every other cell keeps its very text, and so does a feature that did not change."""
    path = made(DIRTY, tmp_path)
    source = read(path)
    found = cohort(source.frame, Columns("site", features=("vol a",)))
    clean = found.values.copy()
    clean[3] = 1 / 3
    source.write(tmp_path / "out.csv", found, clean)
    expected = DIRTY.replace("1e1,104", "0.3333333333333333,104")
    assert (tmp_path / "out.csv").read_text() == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"want a table.*H11"),
        ("s,f\n", r"found no rows.*H11"),
        ("s,f,f\na,1,2\n", r"two columns 'f'.*H11"),
        ("s,f\na,1,2,3\nb,1,2,3\n", r"rows longer than the header.*H11"),
        ("s,f\na,1\nb,low\n", r"column 'f': found 'low' in row 2.*H11"),
        ("site,f\na,1\n", r"no column 's'.*columns as the header does: site, f.*H11"),
    ],
)
def test_what_is_no_such_table_is_refused(text: str, match: str, tmp_path: Path) -> None:
    """The message says where it is wrong."""
    with pytest.raises(HarmonizeError, match=match):
        cohort(read(made(text, tmp_path)).frame, Columns("s", features=("f",)))


def test_a_site_without_training_rows_joins_later() -> None:
    """Its own effect comes from its own rows; the fit is that of the other sites alone."""
    cohort = two_sites(60)
    third = cohort.sites.copy()
    third[::3] = "C"
    cohort = Cohort(third, cohort.features, cohort.values, cohort.columns, cohort.covariates)
    stage = ComBat(3, ("age",))
    is_train = third != "C"
    found = harmonize(cohort, stage, is_train)
    rows = np.flatnonzero(is_train)
    alone = Cohort(
        third[rows], cohort.features, cohort.values[rows], ("age",), cohort.covariates[rows]
    )
    assert version(found.parameters) == version(harmonize(alone, stage).parameters)
    assert np.isfinite(found.values).all()
    assert [c.code for c in found.cautions] == ["H15"]


def test_held_out_rows_change_nothing_for_the_others() -> None:
    """A site's own effect comes from its training rows alone."""
    cohort, stage = two_sites(), ComBat(3, ("age",))
    is_train = np.arange(40) % 4 != 0
    one = harmonize(cohort, stage, is_train).values
    cohort.values[~is_train] += 100
    two = harmonize(cohort, stage, is_train).values
    assert (one[is_train] == two[is_train]).all()
    assert (two[~is_train] - one[~is_train] > 50).all()


def test_a_level_that_no_training_row_has_is_refused() -> None:
    """Its effect is not known, so it can be neither kept nor taken out."""
    cohort = two_sites()
    level = np.zeros((40, 1))
    level[5] = 1
    cohort = Cohort(cohort.sites, cohort.features, cohort.values, ("dx=MCI",), level)
    is_train = np.arange(40) != 5
    with pytest.raises(HarmonizeError, match=r"level dx=MCI: found no training row.*H05"):
        harmonize(cohort, ComBat(3, ("dx=MCI",)), is_train)


def test_rows_that_miss_a_covariate_are_refused_or_come_out_empty() -> None:
    """Which of the two is the reader's choice; they are never taken as average rows."""
    cohort, stage = two_sites(), ComBat(3, ("age",))
    cohort.covariates[7] = np.nan
    with pytest.raises(HarmonizeError, match=r"found 1 rows with a missing one \(age\).*H04"):
        harmonize(cohort, stage)
    found = harmonize(cohort, stage, may_exclude=True)
    assert np.unique(np.nonzero(np.isnan(found.values))[0]).tolist() == [7]
    assert [c.code for c in found.cautions] == ["H04"]


def test_one_site_is_refused() -> None:
    """There is nothing to bring it in line with."""
    cohort = two_sites()
    with pytest.raises(HarmonizeError, match=r"found 1 of 2: A.*H12"):
        harmonize(cohort, ComBat(3, ("age",)), cohort.sites == "A")


def test_parameters_are_written_without_pickles(tmp_path: Path) -> None:
    """Whoever opens them runs no code, and finds the version over the very numbers."""
    cohort, stage = two_sites(), ComBat(3, ("age",))
    found = harmonize(cohort, stage)
    saved = saved_of(found, cohort, stage)
    saved.write(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        again = {name: file[name] for name in found.parameters}
        assert str(file["version"]) == saved.version == version(again)
        assert file["features"].tolist() == ["x", "y", "z"]
        np.testing.assert_array_equal(file["site/B/gamma_star"], found.effects["B"].gamma_star)
