"""Tables of features as others had them, each with the right values or the right code.

Every kind names the public report that it is built after; the tables are made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat.combat_table import Harmonized, harmonize
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.tables.table import Cohort, Columns, cohort
from fedmri.harmonize.tables.table_source import Source, read
from fedmri.harmonize.tables.unfit_values import unfit_values

Values = Sequence[object] | NDArray[Any]
N = 24
SITES = np.repeat(["A", "B"], N // 2)
RNG = np.random.default_rng(0)
THICKNESS = np.round(RNG.normal(2.5, 0.1, N) + 0.4 * (SITES == "B"), 4)
VOLUME = np.round(RNG.normal(3512.7, 200, N) + 500 * (SITES == "B"), 2)


def frame_of(**columns: Values) -> pd.DataFrame:
    """Return two sites' table with two features, and further columns before them."""
    own = {name: list(values) for name, values in columns.items()}
    return pd.DataFrame({"site": SITES, **own, "thickness": THICKNESS, "hippo_vol": VOLUME})


def written(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    """Write a table as it is given."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def harmonized(path: Path, columns: Columns | None = None) -> tuple[Source, Cohort, Harmonized]:
    """Read and harmonize a table, and write it beside."""
    source = read(path)
    columns = columns or Columns("site")
    asked = Columns(**{**columns.__dict__, "unclear": source.unclear})
    found = cohort(source.frame, asked)
    result = harmonize(found, ComBat(len(found.features), found.columns, n_min=2))
    source.write(path.with_name(f"out{path.suffix}"), found, result.values)
    return source, found, result


def lines(path: Path) -> list[bytes]:
    """Return what was written, line by line."""
    return path.with_name(f"out{path.suffix}").read_bytes().split(b"\n")


PLAIN = frame_of()

# --- columns that measure nothing ---------------------------------------------------------------

SHUFFLED = RNG.permutation(np.arange(2000, 2000 + N))
LEFT: dict[str, tuple[str, Values, str]] = {
    "rid": ("RID", SHUFFLED, "identifier"),
    "leading zeros": ("PTID", [f"{k:03d}" for k in range(N)], "identifier"),
    "leading zeros under any name": ("x", [f"{k:02d}" for k in range(1, N + 1)], "identifier"),
    "hospital number": ("MRN", RNG.integers(10**7, 10**8, N), "identifier"),
    "row numbers under any name": ("lfd", range(1, N + 1), "identifier"),
    "image id": ("image_uid", RNG.integers(10**5, 10**6, N), "identifier"),
    "too many digits": ("key2", [str(10**17 + k) for k in range(N)], "identifier"),
    "days as numbers": ("ScanDate", 20200101 + np.arange(N), "date"),
    "days under any name": ("aufnahme", 20200101 + np.arange(N), "date"),
    "days of Excel": ("exam_date", RNG.integers(42000, 44000, N), "date"),
    "ISO days": ("when", ["2020-01-31"] * N, "date"),
    "US days": ("when", ["1/31/2020"] * N, "date"),
    "age that is no covariate": ("age", RNG.uniform(20, 80, N).round(1), "about the subject"),
    "sex as 1 and 2": ("sex", RNG.integers(1, 3, N), "about the subject"),
    "visit": ("VISIT", RNG.integers(1, 4, N), "code"),
    "quality flag": ("qc_pass", RNG.integers(0, 2, N), "code"),
    "any flag": ("v2", RNG.integers(0, 2, N), "code"),
    "rating of a measure": ("wmh_grade", RNG.integers(0, 4, N), "code"),
    "field strength": ("field_strength", RNG.choice([1.5, 3.0], N), "acquisition"),
    "slice thickness": ("slice_thickness", RNG.choice([1.0, 1.2, 5.5], N), "acquisition"),
    "scanner number of a site": ("machine", np.where(SITES == "A", 17, 3), "names the site"),
    "constant": ("v3", [7] * N, "constant"),
    "percentages": ("csf_part", [f"{k}.5%" for k in range(N)], "text"),
    "truths": ("ok", ["TRUE", "FALSE"] * (N // 2), "text"),
}


@pytest.mark.parametrize(("name", "values", "part"), LEFT.values(), ids=LEFT)
def test_columns_that_measure_nothing_keep_their_bytes(
    tmp_path: Path, name: str, values: Values, part: str
) -> None:
    """An identifier, date or code is left as it is, and it is said what it was taken for.

    incf-nidash/PyNIDM pull 84 (zeros before identifiers lost), apache/arrow issue 46853,
    pandas-dev/pandas issue 10646 (row numbers become a feature).
    """
    table = frame_of(**{name: values})
    path = written(tmp_path, table.to_csv(index=False))
    _, found, _ = harmonized(path)
    assert found.parts[name].part == part
    assert found.features == ("thickness", "hippo_vol")
    cells = [line.split(b",")[1] for line in lines(path) if line]
    assert cells == [name.encode(), *(str(value).encode() for value in values)]


def test_a_column_without_a_name_is_left(tmp_path: Path) -> None:
    """What pandas wrote as row numbers is no measure.

    huggingface/datasets pull 5490, cpadavis/billy issue 18.
    """
    path = written(tmp_path, PLAIN.to_csv())
    _, found, _ = harmonized(path)
    assert found.parts["Unnamed: 0"].part == "identifier"
    assert [line.split(b",")[0] for line in lines(path)[:3]] == [b"", b"0", b"1"]


UNCLEAR: dict[str, tuple[str, Values]] = {
    "unique whole numbers": ("nr_x", RNG.permutation(np.arange(0, 40 * N, 40))),
    "few whole numbers": ("v4", RNG.integers(0, 5, N)),
    "a score or an age": ("v5", np.tile(np.arange(40, 52), 2)),
    "a percentage": ("gm_percent", RNG.uniform(30, 60, N)),
    "a setting": ("v6", np.tile([0.5, 0.9, 1.2], N // 3)),
}


@pytest.mark.parametrize(("name", "values"), UNCLEAR.values(), ids=UNCLEAR)
def test_a_column_that_may_be_either_is_asked_for(
    tmp_path: Path, name: str, values: Values
) -> None:
    """Nobody guesses: the table's owner says --also or --keep, and is obeyed."""
    path = written(tmp_path, frame_of(**{name: values}).to_csv(index=False))
    with pytest.raises(HarmonizeError, match=rf"{name} \(.*--also {name} .*--keep {name} .*H30"):
        harmonized(path)
    assert name in harmonized(path, Columns("site", also=(name,)))[1].features
    assert name not in harmonized(path, Columns("site", keep=(name,)))[1].features


def test_whole_numbers_that_are_measures_by_name_are_harmonized(tmp_path: Path) -> None:
    """FreeSurfer writes areas and volumes without fractions; they are no identifiers."""
    names = ("lh_bankssts_area", "Left-Hippocampus", "EstimatedTotalIntraCranialVol", "n_lesions")
    table = frame_of(**{name: RNG.integers(10**3, 10**4, N) for name in names})
    _, found, _ = harmonized(written(tmp_path, table.to_csv(index=False)))
    assert found.features == (*names, "thickness", "hippo_vol")


def test_a_value_that_occurs_twice_at_a_site_is_still_a_measure(tmp_path: Path) -> None:
    """A repeated value does not make a feature the name of its site."""
    table = PLAIN.copy()
    table["thickness"] = [THICKNESS[0], *THICKNESS[[0]], *THICKNESS[2:]]
    _, found, _ = harmonized(written(tmp_path, table.to_csv(index=False)))
    assert found.features == ("thickness", "hippo_vol")


REGIONS = (
    "Left-Caudate", "lh_caudalmiddlefrontal_area", "Left-Thalamus-Proper", "CC_Mid_Anterior",
    "Optic-Chiasm", "Left-VentralDC", "Left-vessel", "5th-Ventricle", "MaskVol-to-eTIV",
    "lh_S_temporal_inf_volume", "rh_G&S_cingul-Ant_meancurv", "CSF", "Brain-Stem", "WhiteMatterVol",
)  # fmt: skip


@pytest.mark.parametrize("name", REGIONS)
def test_names_of_regions_are_measures(tmp_path: Path, name: str) -> None:
    """FreeSurfer's names hold words that mean something else elsewhere: caudate is no date."""
    table = frame_of(**{name: RNG.normal(3000, 10, N)})
    _, found, _ = harmonized(written(tmp_path, table.to_csv(index=False)))
    assert found.features == (name, "thickness", "hippo_vol")


def test_patterns_choose_measures_alone(tmp_path: Path) -> None:
    """``--features '*'`` takes no identifier with it; one that is named in full is told."""
    table = frame_of(RID=SHUFFLED, age=RNG.uniform(20, 80, N))
    path = written(tmp_path, table.to_csv(index=False))
    _, found, _ = harmonized(path, Columns("site", features=("*",)))
    assert found.features == ("thickness", "hippo_vol")
    _, found, _ = harmonized(path, Columns("site", features=("RID", "hippo*")))
    assert found.features == ("RID", "hippo_vol")


# --- features that one site has not -----------------------------------------------------------


def with_lesions(at_b: Sequence[float]) -> pd.DataFrame:
    """Return three sites; the second one's lesion volumes are given."""
    rng = np.random.default_rng(1)
    sites = np.repeat(["A", "B", "C"], N // 2)
    own = np.concatenate([rng.normal(5, 1, N // 2), list(at_b), rng.normal(8, 2, N // 2)])
    others = {f"region{k}_vol": rng.normal(k, 1, len(sites)) for k in range(3)}
    return pd.DataFrame({"site": sites, "lesion_vol": own, **others})


@pytest.mark.parametrize(
    "at_b",
    [[0.0] * 12, [3.25] * 12, [*[0.0] * 11, 2.0], [*[0.0] * 10, np.nan, np.nan], [np.nan] * 12],
    ids=["all 0", "all the same", "all 0 but one", "0 or missing", "all missing"],
)
def test_a_feature_that_a_site_has_not_is_left_there(tmp_path: Path, at_b: Sequence[float]) -> None:
    """All zeros stay zeros; the other sites are harmonized as if that site were not there.

    jtleek/sva-devel issues 14 and 37, Jfortin1/ComBatHarmonization issue 31.
    """
    table = with_lesions(at_b)
    path = written(tmp_path, table.to_csv(index=False))
    _, found, result = harmonized(path)
    after = pd.read_csv(path.with_name("out.csv"))["lesion_vol"].to_numpy()
    np.testing.assert_array_equal(after[table.site == "B"], at_b)
    is_told = any(c.code == "H34" and "B" in c.text for c in result.cautions)
    assert is_told is bool(np.isfinite(at_b).any())
    rows = (table.site != "B").to_numpy()
    assert abs(np.mean(after[:12]) - np.mean(after[24:])) < 1.0
    feature = Cohort(found.sites[rows], ("l",), found.values[rows, :1], (), np.zeros((N, 0)))
    pooled = harmonize(feature, ComBat(1, n_min=2)).parameters
    for name in ("alpha", "sigma"):
        np.testing.assert_allclose(result.parameters[name][0], pooled[name][0], rtol=1e-10)


def test_a_feature_that_varies_at_one_site_alone_is_left_everywhere(tmp_path: Path) -> None:
    """There is no second site that it could be brought in line with (Jfortin1/neuroCombat 10)."""
    table = with_lesions([0.0] * 12)
    table.loc[table.site == "C", "lesion_vol"] = 0.0
    path = written(tmp_path, table.to_csv(index=False))
    _, _, result = harmonized(path)
    assert path.with_name("out.csv").read_bytes().count(b"\n") == len(table) + 1
    after = pd.read_csv(path.with_name("out.csv"))["lesion_vol"]
    assert after.tolist() == table["lesion_vol"].tolist()
    assert any(c.code == "H09" and "lesion_vol" in c.text for c in result.cautions)


def test_two_rows_at_a_site_move_by_their_mean_alone(tmp_path: Path) -> None:
    """One row or two have no spread; nothing becomes NaN.

    rpomponio/neuroHarmonize issue 54 (one subject at a site gives NaN for all).
    """
    table = pd.concat([PLAIN, PLAIN.iloc[:2].assign(site="C")])
    _, _, result = harmonized(written(tmp_path, table.to_csv(index=False)))
    assert np.isfinite(result.values).all()
    assert any(c.code == "H10" and c.text.startswith("C") for c in result.cautions)


def test_one_missing_value_costs_one_value(tmp_path: Path) -> None:
    """Jfortin1/neuroCombat issue 28: one NaN there made everything NaN."""
    table = PLAIN.copy()
    table.loc[3, "thickness"] = np.nan
    _, _, result = harmonized(written(tmp_path, table.to_csv(index=False)))
    assert int(np.isnan(result.values).sum()) == 1


def test_zeros_and_outliers_are_told(tmp_path: Path) -> None:
    """A count of lesions is no bell curve, and one wild value moves a whole site."""
    table = frame_of(lesion_count=np.tile([0, 3, 1, 9], N // 4))
    table.loc[5, "thickness"] = 2500.0
    _, found, result = harmonized(written(tmp_path, table.to_csv(index=False)))
    told = unfit_values(found, result.parameters["is_fitted"] > 0)
    assert [c.code for c in told] == ["H35", "H35"]
    assert "lesion_count (25%)" in told[0].text
    assert "thickness 2500 in row 6 (A)" in told[1].text
    assert unfit_values(found, np.zeros(3, dtype=np.bool_)) == []  # nothing was harmonized


def test_infinite_values_are_refused_with_their_place(tmp_path: Path) -> None:
    """They would make every number of the fit undefined."""
    table = PLAIN.astype({"thickness": str})
    table.loc[2, "thickness"] = "inf"
    with pytest.raises(HarmonizeError, match=r"'thickness': found 'inf' in row 3.*H11"):
        harmonized(written(tmp_path, table.to_csv(index=False)))


# --- how a table is written -------------------------------------------------------------------


def semicolons(decimal: str) -> str:
    """Return the plain table with semicolons."""
    return PLAIN.to_csv(index=False, sep=";", decimal=decimal)


FORMS: dict[str, tuple[str | bytes, str]] = {
    "semicolons, decimal commas": (semicolons(","), "t.csv"),
    "semicolons, decimal points": (semicolons("."), "t.csv"),
    "tabs, decimal commas": (PLAIN.to_csv(index=False, sep="\t", decimal=","), "t.tsv"),
    "tabs named .csv": (PLAIN.to_csv(index=False, sep="\t"), "t.csv"),
    "commas named .tsv": (PLAIN.to_csv(index=False), "t.tsv"),
    "pipes": (PLAIN.to_csv(index=False, sep="|"), "t.txt"),
    "quoted decimal commas": (PLAIN.to_csv(index=False, decimal=","), "t.csv"),
    "a mark before UTF-8": (PLAIN.to_csv(index=False).encode("utf-8-sig"), "t.csv"),
    "UTF-16": (PLAIN.to_csv(index=False, sep="\t").encode("utf-16"), "t.txt"),
    "UTF-16 without a mark": (PLAIN.to_csv(index=False).encode("utf-16-le"), "t.csv"),
    "Windows line ends": (PLAIN.to_csv(index=False, lineterminator="\r\n"), "t.csv"),
    "old Mac line ends": (PLAIN.to_csv(index=False, lineterminator="\r"), "t.csv"),
    "everything in quotes": (PLAIN.to_csv(index=False, quoting=1), "t.csv"),
    "blanks after commas": (PLAIN.to_csv(index=False).replace(",", ", "), "t.csv"),
    "Excel's first line": ("sep=;\n" + semicolons(","), "t.csv"),
    "empty lines at the end": (PLAIN.to_csv(index=False) + "\n,,\n\n", "t.csv"),
    "a comma after each row": (PLAIN.to_csv(index=False).replace("\n", ",\n"), "t.csv"),
    "a comma after values alone": (
        PLAIN.to_csv(index=False).replace("\n", ",\n").replace("vol,", "vol", 1),
        "t.csv",
    ),
    "no line end at the end": (PLAIN.to_csv(index=False).rstrip("\n"), "t.csv"),
}


@pytest.mark.parametrize(("text", "name"), FORMS.values(), ids=FORMS)
def test_a_table_is_read_and_written_as_it_is_formed(
    tmp_path: Path, text: str | bytes, name: str
) -> None:
    """The same numbers come out, in the same form, and with no feature changed the same bytes.

    haesleinhuepf/devbio-napari issue 46 and tidyverse/readr issue 521 (semicolons),
    bids-standard/bids-validator issue 179 (UTF-16), aces/Loris-MRI pull 610 (a mark before the
    header), pandas-dev/pandas issue 14124 (a comma after each row).
    """
    _, _, wanted = harmonized(written(tmp_path, PLAIN.to_csv(index=False), "plain.csv"))
    path = written(tmp_path, text, name)
    source, found, result = harmonized(path)
    assert found.features == ("thickness", "hippo_vol")
    np.testing.assert_array_equal(result.values, wanted.values)
    again = read(path.with_name(f"out{path.suffix}"))
    np.testing.assert_array_equal(cohort(again.frame, Columns("site")).values, wanted.values)
    source.write(tmp_path / f"same{path.suffix}", found, found.values)
    assert (tmp_path / f"same{path.suffix}").read_bytes() == path.read_bytes()


def test_latin_letters_are_read_written_and_told(tmp_path: Path) -> None:
    """mne-tools/mne-bids issue 1594: one accent and nothing can be read."""
    table = PLAIN.rename(columns={"hippo_vol": "hippocampe_é"})
    path = written(tmp_path, table.to_csv(index=False).encode("latin-1"))
    source, found, _ = harmonized(path)
    assert found.features[1] == "hippocampe_é"
    assert [c.code for c in source.cautions] == ["H29"]
    assert "hippocampe_é".encode("latin-1") in lines(path)[0]


THOUSANDS = {
    "US": (",", ",."),
    "Swiss": (",", "'."),
    "German": (";", ".,"),
    "French": (";", "\u202f,"),
}


@pytest.mark.parametrize(("separator", "marks"), THOUSANDS.values(), ids=THOUSANDS)
def test_marks_between_thousands_are_no_digits(tmp_path: Path, separator: str, marks: str) -> None:
    """1,234.5 and 1.234,5 and 1 234,5 are one number (pandas-dev/pandas issue 22584)."""
    local = str.maketrans(",.", marks)
    table = PLAIN.assign(hippo_vol=[f"{v:,.2f}".translate(local) for v in VOLUME])
    path = written(tmp_path, table.to_csv(index=False, sep=separator))
    _, found, _ = harmonized(path)
    np.testing.assert_array_equal(found.values[:, 1], VOLUME)


def test_numbers_that_can_be_read_in_two_ways_are_asked_for(tmp_path: Path) -> None:
    """1,234 is a thousand to some and one to others (tidyverse/readr issue 1059)."""
    table = PLAIN.assign(hippo_vol=[f"{int(v):,}" for v in VOLUME], thickness=1.5)
    path = written(tmp_path, table.to_csv(index=False, columns=["site", "hippo_vol"]))
    with pytest.raises(HarmonizeError, match=r"hippo_vol \('.,...': say --decimal.*H30"):
        harmonized(path)
    with pytest.raises(HarmonizeError, match="H33"):
        harmonized(path, Columns("site", features=("hippo_vol",)))
    for mark, factor in ((".", 1), (",", 1000)):
        frame = read(path, mark).frame
        found = cohort(frame, Columns("site", features=("hippo_vol",))).values[:, 0]
        np.testing.assert_allclose(found * factor, np.floor(VOLUME))


CODED: dict[str, tuple[str, float]] = {
    "-9999": ("hippo_vol", -9999),
    "-999": ("thickness", -999),
    "-9": ("thickness", -9),
    "-4 of ADNI": ("thickness", -4),
    "9999": ("thickness", 9999),
    "-999 as an age": ("age", -999),
}


@pytest.mark.parametrize(("name", "code"), CODED.values(), ids=CODED)
def test_codes_for_missing_are_no_measures(tmp_path: Path, name: str, code: float) -> None:
    """They are taken as missing where nothing else is near, it is said, and their text stays.

    pbreheny/plmmr issue 29 (-9), bluegreen-labs/phenor issue 23 (9999), jrnold/CDB90 issue 1.
    """
    table = frame_of(age=RNG.uniform(20, 80, N).round(1))
    table.loc[[2, 15], name] = code
    path = written(tmp_path, table.to_csv(index=False))
    source = read(path)
    assert [(c.code, f"{name} (2 times {code:g})" in c.text) for c in source.cautions] == [
        ("H32", True)
    ]
    covariates = ("age",) if name == "age" else ()
    found = cohort(source.frame, Columns("site", covariates=covariates))
    column = found.covariates[:, 0] if covariates else found.values[:, found.features.index(name)]
    assert np.flatnonzero(np.isnan(column)).tolist() == [2, 15]
    source.write(tmp_path / "same.csv", found, found.values)
    assert (tmp_path / "same.csv").read_bytes() == path.read_bytes()


def test_numbers_that_only_look_like_codes_stay(tmp_path: Path) -> None:
    """A z-score of -1 and a volume of 999 among others like it are measures."""
    table = frame_of(z_vol=np.linspace(-2, 2, 25)[:N], area=np.linspace(800, 1200, N).round())
    table.loc[6, ["z_vol", "area"]] = (-1.0, 999)
    source = read(written(tmp_path, table.to_csv(index=False)))
    assert source.cautions == ()
    assert (source.frame["area"] == "999.0").any()


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "Excel": (b"PK\x03\x04" + b"\0" * 60, r"an Excel workbook.*save it as CSV.*H28"),
    "old Excel": (b"\xd0\xcf\x11\xe0" + b"\0" * 60, r"an Excel workbook.*H28"),
    "SPSS": (b"$FL2@(#)", r"an SPSS file.*H28"),
    "web page": ("<html><table>", r"a web page.*H28"),
    "gzip": (b"\x1f\x8b\x08\0", r"a gzip archive.*H28"),
    "pointer of git-annex": ("/annex/objects/MD5-s1--abc", r"pointer of git-annex.*H28"),
    "bytes": (bytes(range(256)), r"bytes that are no text.*H28"),
    "nothing": ("\n\n", r"found nothing.*H11"),
    "blanks between values": ("site thickness\nA 1.5\nB 2.5\n", r"one column, 'site thickness'"),
    "no header": ("1,2.5\n2,3.5\n", r"a first row of numbers.*H11"),
    "header without the row names of R": (
        '"site","thickness"\n"1","A",2.5\n"2","B",3.5\n',
        r"rows longer than the header.*row\.names=FALSE.*H11",
    ),
    "one long row": ("site,v\nA,1.5\nB,2,5,\n", r"longer than the header, the first row 2.*H11"),
    "cut off": ("site,v,w\nA,1.5,2\nB,2", r"a last row of 2 values, cut off.*H11"),
    "one name twice": ("site,v, v\nA,1,2\n", r"two columns 'v'.*H11"),
    "one site in two spellings": ("site,v\nS1,1.5\ns1 ,2.5\n", r"'S1' and 's1'.*H37"),
    "one site as 1 and 1.0": ("site,v\n1,1.5\n1.0,2.5\n01,2\n", r"'01' and '1'.*H37"),
}


@pytest.mark.parametrize(("text", "match"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_such_table_is_refused_in_one_sentence(
    tmp_path: Path, text: str | bytes, match: str
) -> None:
    """What it is, what was wanted and how to get there.

    openelections/openelections-data-ca pull 206 (a bare comma gives a row one value more),
    pandas-dev/pandas issue 9295 (a comma in the first row corrupts the table in silence).
    """
    with pytest.raises(HarmonizeError, match=match):
        harmonized(written(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """And so is a folder; the message is no number of an operating system."""
    for path, said in ((tmp_path / "no.csv", "no such file"), (tmp_path, "a folder")):
        with pytest.raises(HarmonizeError, match=rf"found {said}.*H28"):
            read(path)


def test_one_site_in_two_unicode_forms_is_one(tmp_path: Path) -> None:
    """Zürich with one letter or two is the same hospital."""
    table = PLAIN.assign(site=["Z\u00fcrich", "Zu\u0308rich"] * (N // 4) + ["Bern"] * (N // 2))
    _, found, _ = harmonized(written(tmp_path, table.to_csv(index=False)))
    assert found.names == ("Bern", "Z\u00fcrich")
