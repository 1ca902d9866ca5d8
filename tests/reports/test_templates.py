"""The one style of all pages, and what goes into them."""

from __future__ import annotations

import re
from pathlib import Path

import fedmri
from fedmri.reports.pages.templates import template, unbroken

PAGES = {
    path.relative_to(folder): path.read_text(encoding="utf-8")
    for folder in [Path(fedmri.__file__).parent]
    for name in ("api", "reports", "commands", "server")
    for path in (folder / name).rglob("*.html.jinja")
}


def test_every_page_has_the_one_style_and_follows_the_reader_into_the_dark() -> None:
    """It says so before it is drawn, and no page has a palette of its own."""
    assert len(PAGES) >= 5
    for path, text in PAGES.items():
        assert '{% include "style.css.jinja" %}' in text, path
        assert '<meta name="color-scheme" content="light dark">' in text, path
        assert ":root {" not in text, path


def test_every_colour_has_a_dark_one() -> None:
    """Text and ground are named once, and the names have values for light and for dark."""
    style = template("style.css.jinja").render()
    light, _, rest = style.partition("@media screen and (prefers-color-scheme: dark) {")
    dark, _, others = rest.partition("\n}\n")
    assert re.findall(r"(--\w+):", light) == re.findall(r"(--\w+):", dark)
    assert not re.findall(r"#[0-9a-f]{3,6}\b", others)


def test_an_interval_stays_on_one_line() -> None:
    """What stands in brackets is not broken, and nothing in it is markup."""
    assert unbroken("0.5 (0.4 to 0.6): better") == (
        '0.5 <span class="whole">(0.4 to 0.6)</span>: better'
    )
    assert unbroken("<b> (<i>)") == '&lt;b&gt; <span class="whole">(&lt;i&gt;)</span>'
    assert unbroken("no brackets (") == "no brackets ("
