"""The linter finds what arithmetic forbids, and accuses no table that can be."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fedmri
from fedmri.errors import UsageError
from fedmri.evaluate.claims.lint import lint
from fedmri.evaluate.claims.mistakes import MISTAKES
from fedmri.evaluate.claims.paper import claim_of, paper_of
from fedmri.evaluate.claims.shares import smallest_n, smallest_table
from fedmri.evaluate.claims.stated import Finding, share
from fedmri.evaluate.scores.classes import Table


def found(**claim: object) -> dict[str, Finding]:
    """Return the findings of one claim by their rule, without what methods do not say."""
    return {one.rule: one for one in lint(paper_of({"claims": [claim]})) if one.claim}


CLAIMS: dict[str, tuple[dict[str, object], str]] = {
    # the harmonic mean of 98.75 and 99.20 is 98.974
    "f1 of one table": ({"precision": "98.75", "recall": "99.20", "f1": "98.87"}, "f1"),
    # 37/38 is 97.37 %, 38/38 is 100 %
    "99 % of 38": ({"n": 38, "accuracy": "99 %"}, "attainable"),
    # 97/98 is 98.98 %
    "recall of 98 tumours": ({"n_positive": 98, "recall": "99.20"}, "attainable"),
    "202 iterations in 10 epochs": ({"epochs": 10, "iterations": 202}, "iterations"),
    # precision = recall = 97.33 has F1 97.33
    "f1 above both": (
        {"accuracy": "97.33", "precision": "97.33", "recall": "97.33", "f1": "98.51"},
        "f1",
    ),
    "accuracy below both": (
        {"accuracy": "90.2", "sensitivity": "90.6", "specificity": "90.9"},
        "between",
    ),
    # 0.975 squared is 0.9506, below 0.955
    "R2 above r squared": ({"r": "0.97", "r2": "0.96"}, "r2"),
    "8 of 10 as 76 %": (
        {"internal": "83", "external": "76", "n_external": 10, "metric": "accuracy"},
        "attainable",
    ),
    "drop": ({"internal": "99.54", "external": "94.12", "drop": "6.42"}, "drop"),
    "parts": ({"parts": [4712, 671, 1352], "total": "6,736"}, "parts"),
    "value outside": ({"accuracy": "0.93", "accuracy_interval": ["0.80", "0.90"]}, "interval"),
    "more positive than all": ({"n": 10, "n_positive": 15}, "counts"),
    "two classes of other numbers": ({"n": 10, "n_positive": 4, "n_negative": 5}, "counts"),
    # a batch holds one case or more
    "more iterations than cases": (
        {"epochs": 1, "iterations": "2 G", "n_train": "1 G"},
        "iterations",
    ),
    "swapped ends": ({"auc": "0.85", "auc_interval": ["0.9", "0.8"]}, "interval"),
    "AUC of six pairs": ({"n": 5, "n_positive": 2, "auc": "0.80"}, "auc"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_that_arithmetic_forbids_is_impossible(name: str) -> None:
    """Each claim breaks one rule, and the linter names it."""
    claim, rule = CLAIMS[name]
    assert found(**claim)[rule].severity == "impossible"


POSSIBLE: dict[str, dict[str, object]] = {
    "F1 of two classes": ({"precision": "97.69", "recall": "97.75", "f1": "97.70",
                           "average": "macro"}),
    "F1 over folds": ({"precision": "98.75", "recall": "99.20", "f1": "98.87",
                       "average": "folds"}),
    "drop": {"internal": "99.54", "external": "94.12", "drop": "5.42", "n_external": 200},
    "MiB": {"parameters": "1.806 M", "size_mb": "6.89"},
    "parts": {"parts": [4712, 671, 1352], "total": "6,735"},
    # answered at once: neither a table nor a batch size is searched among millions
    "millions of cases": {"n": "3 M", "n_positive": "1 M", "accuracy": "90.1 %",
                          "sensitivity": "80.2 %", "specificity": "95.3 %",
                          "epochs": 2, "iterations": 18750, "n_train": "3 M"},
    "vgg16": {"network": "VGG-16", "parameters": "138.4 M", "size_mb": "528"},
}  # fmt: skip


@pytest.mark.parametrize("name", POSSIBLE)
def test_a_claim_that_can_be_is_not_accused(name: str) -> None:
    """Averages obey fewer rules, megabytes have two sizes, and sums add up."""
    severities = {one.severity for one in found(**POSSIBLE[name]).values()}
    assert not severities & {"impossible", "unlikely"}


def test_the_batches_of_an_epoch_are_those_of_some_batch_size() -> None:
    """As all batch sizes tried one by one say, with and without the rest at the end."""
    for n in (1, 7, 30, 31):
        sizes = range(1, n + 1)
        some = {math.ceil(n / b) for b in sizes} | {n // b for b in sizes}
        for n_batches in range(1, n + 3):
            claim = {"epochs": 1, "iterations": n_batches, "n_train": n}
            assert ("iterations" in found(**claim)) == (n_batches not in some)


def test_an_average_of_f1_is_never_above_the_f1_of_the_averages() -> None:
    """The harmonic mean is concave: 98.51 above 97.33 is impossible however it is averaged."""
    claim = {"precision": "97.33", "recall": "97.33", "f1": "98.51", "average": "folds"}
    assert found(**claim)["f1"].severity == "impossible"


def test_the_smallest_test_set_of_several_numbers_is_found() -> None:
    """11/12, 6/7, 6/6: twelve cases, and no fewer."""
    claim = claim_of({"accuracy": "91.67", "precision": "100", "recall": "85.71", "f1": "92.31"})
    assert smallest_table(claim, sizes=range(2, 100)) == Table(tp=6, fn=1, tn=5, fp=0)


def test_a_test_set_that_cannot_have_all_numbers_is_told() -> None:
    """Each of 90 %, 80 % and 60 % is some of 20; together accuracy is at most 80 %."""
    claim = {"n": 20, "accuracy": "90 %", "sensitivity": "80 %", "specificity": "60 %"}
    assert found(**claim)["table"].severity == "impossible"


@pytest.mark.parametrize(("text", "n"), [("99.43", 174), ("99.57", 230), ("99.13", 115)])
def test_the_smallest_number_of_cases_of_a_share(text: str, n: int) -> None:
    """173/174, 229/230 and 114/115: no smaller denominator rounds to these."""
    assert smallest_n(share("accuracy", text)) == n


def test_three_numbers_imply_a_fourth() -> None:
    """Sensitivity 1, precision .75, accuracy .83: .51 are positive, specificity 1 - .17/.49."""
    text = found(sensitivity="100", precision="75", accuracy="83")["implied"].text
    assert "65.31 %" in text
    assert "51.00 %" in text


def test_an_external_score_of_ten_patients_decides_nothing() -> None:
    """83 to 76 on ten patients holds ten points in its interval; on 4,000 it does not."""
    few = found(internal="83", external="76", n_external=10)["gap"].text
    many = found(internal="83", external="76", n_external=4000)["gap"].text
    assert few.startswith("Inconclusive")
    assert many.startswith("Pass")


def test_a_narrow_interval_asks_what_it_counts() -> None:
    """Of 50 patients .90 has a width of .19; .02 is that of slices."""
    claim = {"n": 50, "accuracy": "0.90", "accuracy_interval": ["0.89", "0.91"]}
    assert found(**claim)["width"].severity == "unlikely"


def test_a_copied_row_is_seen() -> None:
    """Two models with the same numbers to the last digit."""
    rows = [{"name": name, "accuracy": "89.5", "f1": "85.5"} for name in ("one", "other")]
    assert "twins" in {one.rule for one in lint(paper_of({"claims": rows}))}


def test_a_network_has_the_parameters_that_it_has() -> None:
    """VGG-19 has 143.7 M parameters, so 171 M and 528 MB are of another."""
    claim = {"network": "VGG-19", "parameters": "171 M", "size_mb": "528"}
    assert {"parameters", "size"} <= found(**claim).keys()


@pytest.mark.parametrize("seed", range(60))
def test_no_real_table_is_accused(seed: int) -> None:
    """Scores of any table of counts, rounded to any digits, contradict nothing."""
    rng = np.random.default_rng(seed)
    table = Table(*(int(n) for n in rng.integers(1, 60, 4)))
    digits = int(rng.integers(0, 5))
    names = {"accuracy", "sensitivity", "specificity", "precision", "f1"}
    scores = {name: one for name, one in table.scores().items() if name in names}
    claim = {name: f"{100 * one.value:.{digits}f} %" for name, one in scores.items()}
    ends = [f"{100 * end:.{digits}f} %" for end in (table.accuracy.low, table.accuracy.high)]
    sizes = {"n": table.n, "n_positive": table.tp + table.fn}
    said = found(**claim, **sizes, accuracy_interval=ends)
    assert not {one.severity for one in said.values()} & {"impossible", "unlikely"}


def test_every_mistake_is_flagged_by_its_answer() -> None:
    """Twenty questions, each with a wrong and a right answer."""
    assert [one.number for one in MISTAKES] == list(range(1, 21))
    wrong = lint(paper_of({"methods": {one.key: one.bad[0] for one in MISTAKES}}))
    right = lint(paper_of({"methods": {one.key: one.good[0] for one in MISTAKES}}))
    assert len([one for one in wrong if one.severity == "flag"]) == 20
    assert right == ()


def test_what_methods_do_not_say_is_named() -> None:
    """Without the unit of the split no number can be judged."""
    (note,) = lint(paper_of({"methods": {"chosen_on": "validation"}}))
    assert "split" in note.text


@pytest.mark.parametrize(
    "paper",
    [
        {"claims": [{"acuracy": "99 %"}]},
        {"claims": [{"accuracy": "high"}]},
        {"claims": [{"accuracy": "990"}]},
        {"claims": [{"accuracy": "-5 %"}]},
        {"claims": [{"n": "some"}]},
        {"claims": [{"accuracy_interval": ["0.1"]}]},
        {"claims": "none"},
        {"methods": {"split": "by hand"}},
        {"methods": {"spilt": "patient"}},
        {},
    ],
)
def test_what_cannot_be_read_is_told(paper: dict[str, object]) -> None:
    """A misspelt key would otherwise pass as a claim that is checked."""
    with pytest.raises(UsageError, match=r"\[U81\]"):
        fedmri.lint_claims(paper)


def test_an_error_says_which_claim_it_is_in_and_no_key_is_lost(tmp_path: Path) -> None:
    """The second of two is odd; a key that is there twice would lose its first number."""
    with pytest.raises(UsageError, match=r"\[U81\]") as caught:
        fedmri.lint_claims({"claims": [{"n": 5}, {"name": "external", "n": "some"}]})
    assert caught.value.__notes__ == ["in claim 2, external"]
    path = tmp_path / "paper.yaml"
    path.write_text("claims:\n  - {n: 5, n: 6}\n")
    with pytest.raises(UsageError, match="key n twice in one place"):
        fedmri.lint_claims(path)


PAPER = """
claims:
  - {name: hold-out, n: 38, accuracy: 99 %}
  - {name: recall, n_positive: 98, recall: 99.20}
methods: {split: patient, chosen_on: validation, interval_over: patients, fitted_on: train}
"""


def test_the_command_ends_with_3_where_a_claim_is_impossible(tmp_path: Path) -> None:
    """A script sees it; the zero of 99.20 is read, and no framework is loaded."""
    (tmp_path / "paper.yaml").write_text(PAPER)
    code = "import sys; from fedmri.cli import main; sys.argv[0] = 'fedmri'; main()"
    words = [sys.executable, "-c", code, "lint-claims", str(tmp_path / "paper.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert (
        "hold-out: accuracy 99 %: 37/38 is 97.37 %, 38/38 is 100.00 % [attainable]" in done.stdout
    )
    assert "2 findings are impossible" in done.stdout


def test_the_facade_returns_a_table() -> None:
    """What the command prints, as a frame."""
    check = fedmri.lint_claims({"claims": [{"n": 38, "accuracy": "99 %"}]})
    assert not check.is_possible
    assert list(check.table().columns) == ["severity", "claim", "rule", "text"]
    assert check.table().severity[0] == "impossible"
