"""The page of a harmonization on a phone and in the dark."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fedmri.reports.pages.before_after import BeforeAfter, Feature, Table, write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTH = 390


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Write a page with long words in a wide table, and a feature of three sites."""
    rng = np.random.default_rng(0)
    sides = {f"University_Hospital_{k}": rng.normal(k, 1, 20) for k in range(3)}
    head = ("", "Accuracy", "Largest site's share", "Mean over sites", "p")
    row = ("Site from features given age, before", "0.900", "0.184", "0.849", "0.010")
    table = Table("Can the site be told?", "How often a probe names it.", head, (row,) * 3)
    facts = (("Version of the parameters", "f" * 64),)
    shown = BeforeAfter(
        "217 features",
        "A lead.",
        facts,
        (("H36", "Told."),),
        (table,),
        (Feature("x", sides, sides),),
    )
    write_page(tmp_path / "page.html", shown)
    return tmp_path / "page.html"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium")
def test_a_phone_shows_whole_words_without_scrolling_sideways(page: Path, tmp_path: Path) -> None:
    """At 390 px the page is no wider than the screen, and no table cell is one letter wide."""
    frame = tmp_path / "phone.html"
    frame.write_text(
        f'<iframe src="{page.as_uri()}" style="width:{WIDTH}px;height:800px" onload="'
        "const root = this.contentDocument.documentElement;"
        "const cells = [...this.contentDocument.querySelectorAll('td')];"
        "const tall = Math.max(...cells.map(cell => cell.firstChild ? "
        "(r => (r.selectNodeContents(cell), r.getClientRects().length))"
        "(this.contentDocument.createRange()) : 1));"
        "document.title = root.scrollWidth + ' of ' + root.clientWidth + ' lines ' + tall"
        '"></iframe>'
    )
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'profile'}", "--allow-file-access-from-files", "--dump-dom",
        frame.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(\d+) of (\d+) lines (\d+)</title>", done.stdout)
    assert title is not None
    assert int(title[1]) <= int(title[2]) <= WIDTH
    assert int(title[3]) == 1
