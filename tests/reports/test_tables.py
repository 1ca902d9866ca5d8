"""Words and tables say what the summary says, and no more."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmri.reports.results import load_results
from fedmri.reports.summary import Summary, summarise
from fedmri.reports.text.tables import as_json, as_markdown, difference_table, outside_table
from fedmri.reports.text.words import comparisons, headline, number, with_interval
from fedmri.tasks.task import Task

WriteRun = Callable[..., Path]
EZ = "external:EZ"


@pytest.fixture
def summary(full_run: Path, segmentation: Task) -> Summary:
    """Return the summary of the full run."""
    return summarise(load_results(full_run), segmentation, n_bootstrap=200)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8123, "0.812"),
        (12.345, "12.35"),
        (374.0, "374.0"),
        (-0.0004, "0.000"),
        (-0.0312, "\N{MINUS SIGN}0.031"),
        (math.nan, "\N{EN DASH}"),
    ],
)
def test_a_number_has_digits_that_mean_something(value: float, text: str) -> None:
    """Small numbers have three decimals, large ones fewer, and zero has no sign."""
    assert number(value) == text


def predict_with(gain: float, noise: float) -> Callable[..., dict[str, Any]]:
    """Return models that differ by a gain, and by a noise that changes sign between patients."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        is_federated = arm == "federated"
        change = gain + noise * (-1) ** i if is_federated else 0
        return {"scores": {"dice": 0.5 + change}}

    return predict


@pytest.mark.parametrize(
    ("gain", "noise", "claim"),
    [
        (
            0.1,
            0.001,
            "better than training on pooled data, of one training (0.500; difference +0.100,",
        ),
        (-0.1, 0.001, "worse than training on pooled data, of one training"),
        (0.01, 0.3, "no difference shown from training on pooled data"),
    ],
)
def test_the_headline_claims_what_the_interval_shows(
    write_run: WriteRun, segmentation: Task, gain: float, noise: float, claim: str
) -> None:
    """Better and worse are said where zero is left out, and nothing like "equal" elsewhere."""
    run = write_run({"A": 12}, predict_with(gain, noise), arms=["federated", "pooled"])
    text = headline(summarise(load_results(run), segmentation))
    assert text.startswith("Federated training reached a Dice of 0.")
    assert "on 12 test patients of 1 site, one seed" in text
    assert claim in text
    assert "equal" not in text
    assert "significant" not in text


STRATEGIES = ("fedprox", "fedavg", "ditto")


@pytest.fixture
def several(write_run: WriteRun, segmentation: Task) -> Summary:
    """Return the summary of three strategies, one better than pooling and one worse."""
    gain = {"federated:ditto": 0.1, "federated:fedprox": -0.1}

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        step = gain[arm] + 0.01 * (-1) ** (i // 2) if arm in gain else 0.3 * (-1) ** i
        return {"scores": {"dice": 0.5 + step * (arm != "pooled")}}

    arms = [*(f"federated:{name}" for name in STRATEGIES), "pooled"]
    return summarise(load_results(write_run({"A": 12}, predict, arms=arms)), segmentation)


def test_the_headline_of_several_strategies_praises_none(several: Summary) -> None:
    """It gives the range, and says that the best by the same patients is flattered."""
    text = headline(several)
    assert text.startswith("3 strategies over the same rounds reached Dice from 0.400 (fedprox) to")
    assert "to 0.600 (ditto, 0.559 to 0.607) on 12 test patients of 1 site, one seed" in text
    assert "None was chosen beforehand" in text
    assert comparisons(several) == [
        "against training on pooled data, better, of one training: ditto; "
        "no difference shown: fedavg; worse, of one training: fedprox",
        "against fedavg, no difference shown: ditto, fedprox",
    ]


def test_several_strategies_have_a_row_each_and_a_column_for_each_reference(
    several: Summary,
) -> None:
    """FedAvg comes first, for the others are read against it; no row compares it with itself."""
    head, rows = difference_table(several)
    assert head == ["Model", "minus pooled", "minus fedavg"]
    assert [row[0] for row in rows] == [f"federated:{n}" for n in ("fedavg", "ditto", "fedprox")]
    assert rows[0][2] == "\N{EN DASH}"
    assert rows[1][1] == "+0.100 (+0.093 to +0.107): better, of one training"


def test_json_holds_every_number_and_no_nan(write_run: WriteRun, classification: Task) -> None:
    """Strict parsers can read it: what is not defined (an area with one class) is null."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return {"truth": 0.0, "prediction": [0.6, 0.4], "scores": {"predicted": 0.0}}

    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = as_json(summarise(load_results(write_run({"A": 6}, predict)), classification))
    values = json.loads(text, parse_constant=refuse)
    assert values["rows"][0]["overall"]["auc"]["value"] is None
    assert values["rows"][0]["overall"]["accuracy"]["value"] == 1


def test_markdown_holds_the_headline_and_both_tables(summary: Summary) -> None:
    """What the page says first can be pasted into a note."""
    text = as_markdown(summary)
    assert text.startswith(headline(summary))
    assert "| federated | " in text
    assert "| federated minus pooled | " in text


def test_markdown_tells_what_was_found_elsewhere(summary: Summary) -> None:
    """Sites that took no part are the real test: each model's score there, and what was lost."""
    text = as_markdown(summary)
    assert "At external hospitals, the loss in Dice was " in text
    head, rows = outside_table(summary)
    assert head == ["At sites that took no part", "EZ (external), 8 patients"]
    assert [name for name, _ in rows] == [row.label for row in summary.rows if EZ in row.by_site]
    assert dict(rows)["federated"] == with_interval(summary.rows[0].by_site[EZ]["dice"])
    assert "| At sites that took no part | EZ (external), 8 patients |" in text


def test_markdown_says_nothing_of_sites_that_were_not_asked(
    write_run: WriteRun, segmentation: Task
) -> None:
    """No sentence and no table without a site that took no part."""
    run = write_run({"A": 6}, predict_with(0, 0))
    text = as_markdown(summarise(load_results(run), segmentation))
    assert "took no part" not in text
    assert "ther hospitals were not asked" not in text


def test_a_name_cannot_break_out_of_a_markdown_table(
    write_run: WriteRun, segmentation: Task
) -> None:
    """A strategy called ``a|b<i>`` stays in its cell."""
    run = write_run({"A": 6}, predict_with(0, 0), arms=["federated:a|b<i>"])
    text = as_markdown(summarise(load_results(run), segmentation))
    assert "| federated:a\\|b&lt;i> |" in text


def test_counts_are_shown_as_counts(summary: Summary) -> None:
    """Masks that were missed are counted: no interval, no decimals that mean nothing."""
    line = next(x for x in as_markdown(summary).splitlines() if x.startswith("| pooled |"))
    assert [cell.strip() for cell in line.strip("|").split("|")][3::2] == ["0", "31"]
