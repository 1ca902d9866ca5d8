"""The page that judges a simulation's harmonization of images."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedmri.api.pages.image_page import PAGE, image_page
from fedmri.api.result import StudyResult
from fedmri.commands.image_page import try_image_page
from fedmri.config import load_resolved
from fedmri.reports.pages.page import write_report
from fedmri.reports.summary import Summary


class Cells(HTMLParser):
    """The text of a page's cells, and how many drawings it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.n_drawings, self._is_cell = 0, False
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note cells and count drawings."""
        self._is_cell = tag in ("td", "th")
        self.n_drawings += tag == "svg"

    def handle_data(self, data: str) -> None:
        """Keep the text of cells."""
        if self._is_cell and data.strip():
            self.cells.append(data.strip())


@pytest.fixture
def harmonized(run_tiny: Callable[..., Path]) -> tuple[Path, Summary]:
    """Return a run folder of a study with Nyul's histogram standard, and its results."""
    folder = run_tiny("a", "harmonize=nyul", "simulation.arms=[federated]", "rounds.n_rounds=1")
    plan = load_resolved(folder / "config.yaml").plan
    return folder, write_report(folder, plan.target)[1]


def test_the_page_shows_sites_before_and_after(harmonized: tuple[Path, Summary]) -> None:
    """Each modality is drawn, and the probe finds the site less often than before."""
    folder, summary = harmonized
    plan = load_resolved(folder / "config.yaml").plan
    page = image_page(plan, folder, summary)
    assert page == folder / PAGE
    found = Cells(page)
    assert found.n_drawings == len(plan.data.source.modalities)
    before, after = (float(found.cells[found.cells.index(n) + 1]) for n in ("Before", "After"))
    assert after <= before
    text = page.read_text(encoding="utf-8")
    assert "simulation.protocol=loso" in text
    assert all(site in text for site in summary.sites)


def test_a_page_that_fails_is_told_and_raises_nothing(
    harmonized: tuple[Path, Summary], capsys: pytest.CaptureFixture[str]
) -> None:
    """Hours of training are not lost for a page."""
    folder, _ = harmonized
    (folder / "prepared" / "sites.json").unlink()
    assert try_image_page(StudyResult.open(folder)) is None
    assert "no page of the harmonization" in capsys.readouterr().err


def test_the_metric_at_each_left_out_site_is_on_the_page(run_tiny: Callable[..., Path]) -> None:
    """A study that leaves sites out has their results beside what was done to the images."""
    settings = ("simulation.arms=[federated]", "simulation.protocol=loso", "rounds.n_rounds=1")
    folder = run_tiny("a", "harmonize=nyul", *settings)
    plan = load_resolved(folder / "config.yaml").plan
    summary = write_report(folder, plan.target)[1]
    page = image_page(plan, folder, summary)
    assert page is not None
    cells = Cells(page).cells
    assert all(any(cell.endswith(f"out), {site}") for cell in cells) for site in summary.sites)
