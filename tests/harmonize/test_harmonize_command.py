"""``fedmri harmonize``: a table in, a table, parameters and a page out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from fedmri.errors import HarmonizeError, UsageError
from tests.conftest import program

FAST = ("--permutations", "19")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write three sites of twenty subjects, of which one column names site and subject."""
    rng = np.random.default_rng(0)
    rows = []
    for number, site in enumerate(("Oulu", "New York", "<b>")):
        for k in range(20):
            age = rng.uniform(20, 80)
            volumes = {f"v{f}": 5 + number + age / 30 + rng.normal() for f in range(4)}
            rows.append({"who": f"{site}_sub{k}", "age": age, "sex": "MF"[k % 2], **volumes})
    path = tmp_path / "table.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def call(table: Path, *options: str) -> str:
    """Run the command and return what it printed."""
    site = ("--site-column", "who", "--site-pattern", "^(.*)_sub")
    result = CliRunner().invoke(program(), ["harmonize", str(table), *site, *FAST, *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_a_table_is_harmonized_and_shown(table: Path) -> None:
    """Features change, the rest does not, sites cannot be told, and a model gains by it."""
    said = json.loads(call(table, "--covariates", "sex", "--target", "age", "--json"))
    before, after = pd.read_csv(table), pd.read_csv(said["table"])
    features = [f"v{k}" for k in range(4)]
    pd.testing.assert_frame_equal(after.drop(columns=features), before.drop(columns=features))
    means = after.groupby(after.who.str[:3])[features].mean()
    assert (means.max() - means.min()).max() < 0.5  # two were added between sites
    first, _, new = said["decodability"]["Site from features"]
    assert new["accuracy"] < first["accuracy"]
    assert said["task"][1] < said["task"][0]
    page = Path(said["table"]).with_suffix(".html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "transductive" in page
    assert said["version"] in page


def test_a_bent_age_and_covbat_are_options(table: Path) -> None:
    """They are applied, and a fit that was kept is applied to later rows alike."""
    frame = pd.read_csv(table)
    call(table, "--covariates", "age,sex", "--smooth", "age", "--covbat")
    wanted = harmonized(table)
    later = part(table, "later.csv", frame.index % 20 < 10)
    call(later, "--parameters", str(table.with_name("table.harmonized.npz")))
    found = harmonized(later)
    np.testing.assert_allclose(found["v0"], wanted.loc[found.index, "v0"], rtol=1e-12)
    assert "CovBat, eb, smooth in age" in table.with_name("table.harmonized.html").read_text()


def test_a_confounded_target_is_told_with_what_labels_bring(table: Path) -> None:
    """The share between sites is printed, and the errors with labelled patients."""
    frame = pd.read_csv(table)
    frame["age"] += 40 * frame.who.str.startswith("Oulu")
    frame.to_csv(table, index=False)
    said = call(table, "--target", "age", "--calibrate", "3")
    assert "of the variance of age lies between sites" in said
    assert "[H36]" in said
    assert "With 3 labelled patients there" in said


def test_the_same_call_writes_the_same_bytes(table: Path, tmp_path: Path) -> None:
    """Table and page depend on table and seed alone."""
    outs = [tmp_path / name / "out.csv" for name in ("a", "b")]
    for out in outs:
        out.parent.mkdir()
        call(table, "--out", str(out))
    for suffix in (".csv", ".html", ".npz"):
        one, two = (out.with_suffix(suffix).read_bytes() for out in outs)
        assert one == two


def test_the_target_may_not_be_kept(table: Path) -> None:
    """The command refuses before it reads a number, and says why."""
    with pytest.raises(HarmonizeError, match=r"the target's effect hold the answers.*H07"):
        call(table, "--covariates", "age,sex", "--target", "age")


def test_sites_can_join_later(table: Path) -> None:
    """Two sites are fitted, the third is told apart as one that was not."""
    said = json.loads(call(table, "--train-sites", "Oulu,New York", "--json"))
    assert [caution["code"] for caution in said["cautions"]] == ["H15"]
    with pytest.raises(HarmonizeError, match=r"no site Olu.*H12"):
        call(table, "--train-sites", "Olu")


def test_rows_can_be_held_out(table: Path) -> None:
    """Held-out rows change no parameter."""
    frame = pd.read_csv(table)
    frame["split"] = np.where(np.arange(len(frame)) % 4 == 0, "test", "train")
    frame.to_csv(table, index=False)
    one = json.loads(call(table, "--train-column", "split", "--json"))
    frame.loc[frame.split == "test", "v0"] += 100
    frame.to_csv(table, index=False)
    two = json.loads(call(table, "--train-column", "split", "--json"))
    assert one["version"] == two["version"]


def test_the_table_is_never_written_over(table: Path) -> None:
    """Whoever wants the raw features back still has them."""
    with pytest.raises(UsageError, match=r"want a new table.*U01"):
        call(table, "--out", str(table))


def test_sites_too_small_to_be_probed_are_harmonized_all_the_same(table: Path) -> None:
    """Three rows a site cannot be dealt to five folds: that is said, and the table is there."""
    frame = pd.read_csv(table)
    frame[frame.who.str.contains("_sub[0-2]$")].to_csv(table, index=False)
    said = json.loads(call(table, "--n-min", "3", "--json"))
    assert [caution["code"] for caution in said["cautions"]] == ["H12"]
    assert len(pd.read_csv(said["table"])) == 9


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["err", *["1.5"] * 59], "'v0' was left as it is: 1 of 60 values are no numbers"),
        (["err", *["1,234.5"] * 59], "'v0' was left as it is: 60 of 60 values are no numbers"),
        (["3,5%"] * 60, "the first '3,5%' in row 1"),
        (["2020-01-01", *["left"] * 59], ""),
    ],
)
def test_a_column_that_a_stray_word_left_out_is_told(
    table: Path, values: list[str], said: str
) -> None:
    """One bad value costs a feature its harmonization; nobody shall find that out in a paper."""
    frame = pd.read_csv(table)
    frame["v0"] = values
    frame.to_csv(table, index=False)
    output = " ".join(call(table, "--features", "v1,v2").split())
    assert "left as it is" not in output
    output = " ".join(call(table).split())
    assert "Columns harmonized: v1, v2, v3" in output
    assert "Left as they were, about the subject: age, sex" in output
    assert said in output
    assert ("left as it is" in output) is bool(said)


KEPT = ("--covariates", "age,sex")


def part(table: Path, name: str, rows: object) -> Path:
    """Write some rows of a table as another."""
    path = table.with_name(name)
    pd.read_csv(table)[np.asarray(rows)].to_csv(path, index=False)
    return path


def harmonized(table: Path) -> pd.DataFrame:
    """Return what was written for a table."""
    return pd.read_csv(table.with_name(f"{table.stem}.harmonized.csv")).set_index("who")


def test_later_rows_of_a_known_site_are_harmonized_as_if_held_out(table: Path) -> None:
    """The file of the fit is all that they need; one row alone is enough."""
    frame = pd.read_csv(table)
    frame["train"] = (np.arange(len(frame)) % 4 != 0).astype(int)
    frame.to_csv(table, index=False)
    call(table, *KEPT, "--train-column", "train")
    fit = part(table, "fit.csv", frame.train == 1)
    call(fit, *KEPT, "--features", "v0,v1,v2,v3")
    for number, rows in enumerate((frame.train == 0, frame.index == 0)):
        later = part(table, f"later{number}.csv", rows)
        said = call(later, "--parameters", str(fit.with_name("fit.harmonized.npz")))
        assert "Caution" not in said
        found, wanted = harmonized(later), harmonized(table)
        columns = [f"v{k}" for k in range(4)]
        np.testing.assert_array_equal(found[columns], wanted.loc[found.index, columns])


def test_a_site_joins_later_with_the_parameters_frozen(table: Path) -> None:
    """As with its rows beside the others', and the file then knows its effect."""
    frame = pd.read_csv(table)
    is_new = frame.who.str.startswith("New York")
    call(table, *KEPT, "--train-sites", "Oulu,<b>")
    old, new = part(table, "old.csv", ~is_new), part(table, "new.csv", is_new)
    call(old, *KEPT)
    said = call(new, "--parameters", str(old.with_name("old.harmonized.npz")))
    assert "New York: not in the fit" in said
    found, wanted = harmonized(new), harmonized(table)
    pd.testing.assert_frame_equal(found, wanted.loc[found.index])
    again = part(table, "again.csv", frame.index == 20)
    said = call(again, "--parameters", str(new.with_name("new.harmonized.npz")))
    assert "not in the fit" not in said
    pd.testing.assert_frame_equal(harmonized(again), wanted.loc[harmonized(again).index])


def test_parameters_that_do_not_fit_are_refused(table: Path) -> None:
    """By what is wrong: another file, changed numbers, a level of its own, a second fit."""
    call(table, *KEPT)
    fitted = table.with_name("table.harmonized.npz")
    with pytest.raises(UsageError, match=r"found --covariates, --mode"):
        call(table, *KEPT, "--mode", "no_eb", "--parameters", str(fitted))
    with pytest.raises(HarmonizeError, match=r"\[H27\]"):
        call(table, "--parameters", str(table))
    frame = pd.read_csv(table)
    frame.loc[3, "sex"] = "X"
    strange = table.with_name("strange.csv")
    frame.to_csv(strange, index=False)
    with pytest.raises(HarmonizeError, match=r"column 'sex': found 'X', want F or M.*\[H05\]"):
        call(strange, "--parameters", str(fitted))
    with np.load(fitted) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(fitted, **arrays | {"alpha": arrays["alpha"] + 1})
    with pytest.raises(HarmonizeError, match=r"not those of its version.*\[H27\]"):
        call(table, "--parameters", str(fitted))


@pytest.mark.parametrize("name", ["", ".", "/", "circle.csv"])
def test_a_path_that_names_no_file_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing, a folder, and a link that leads to itself."""
    monkeypatch.chdir(tmp_path)
    Path("circle.csv").symlink_to("circle.csv")
    found = CliRunner().invoke(program(), ["harmonize", name, "--site-column", "site"])
    assert isinstance(found.exception, HarmonizeError)
    assert found.exception.code == "H28"
