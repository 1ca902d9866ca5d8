"""The documentation as a site: links lead somewhere, and reference pages say all there is."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest
from typer.main import get_command

from docs.generate.commands import commands_page, contexts
from docs.generate.links import CODE, anchors, for_site, links_of
from docs.generate.settings import settings_page
from fedmri.cli import app
from fedmri.clients.process.home import SiteConfig
from fedmri.config import ROOT as ROOT_FIELD
from fedmri.config import Experiment
from fedmri.server.registry.home import ServerConfig
from fedmri.settings.words import sections

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FETCHED = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
"""What a browser fetches by itself when it shows a page; ``a`` waits for a click."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    """A renamed page, file or heading does not leave a dead link behind."""
    name = document.relative_to(ROOT).as_posix()
    for link in links_of(document.read_text(encoding="utf-8"), name):
        target = ROOT / link.target
        assert target.exists(), f"{name} links to {link.target}"
        if link.anchor:
            known = anchors(target.read_text(encoding="utf-8"))
            assert link.anchor in known, f"{name} links to {link.target}#{link.anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_list_is_one_in_every_reading(document: Path) -> None:
    """An empty line goes before it, and a list within a list is indented by four, for MkDocs."""
    text = CODE.sub("", document.read_text(encoding="utf-8"))
    assert not re.findall(r"^(?!\s*(?:-|\d+\.) |\s*$| ).*\n(?:-|\d+\.) .*", text, re.M)
    assert not re.findall(r"^ {1,3}(?:-|\d+\.) .*", text, re.M)


def test_links_are_read_as_markdown_has_them() -> None:
    """Anchors and folders count; addresses, pictures and code do not."""
    text = (
        "# A b, c!\n\n[x](y.md#z) ![p](p.png) [w](https://w) `[c](c.md)` [up](../deploy) [a](#a)\n"
    )
    found = [(link.target, link.anchor) for link in links_of(text, "docs/d.md")]
    assert found == [("docs/y.md", "z"), ("deploy", ""), ("docs/d.md", "a")]
    assert anchors(f"{text}```\n# no heading\n```\n## A b, c!\n") == {"a-b-c", "a-b-c_1"}
    places = {"docs/d.md": "how/d.md", "docs/y.md": "y.md", "deploy": "files/deploy/index.md"}
    assert for_site("[x](y.md#z), [up](../deploy)", "docs/d.md", places) == (
        "[x](../y.md#z), [up](../files/deploy/index.md)"
    )


@pytest.mark.parametrize("kind", [Experiment, SiteConfig, ServerConfig])
def test_every_setting_says_what_it_means(kind: type[object]) -> None:
    """A setting without a sentence in its docstring is refused here, not found by a reader."""
    page, found = settings_page(), list(sections(kind, root=ROOT_FIELD))
    assert found
    for setting in (setting for section in found for setting in section.settings):
        assert setting.meaning.endswith("."), setting.key
        assert f"| `{setting.key}` |" in page


def test_the_page_of_commands_has_every_command_and_option() -> None:
    """What --help shows, the reference shows."""
    page = commands_page()
    for context in contexts(click.Context(get_command(app), info_name="fedmri")):
        part = page.partition(f"## `{context.command_path}`\n")[2].partition("\n## `")[0]
        assert str(context.command.help).partition("\n")[0] in part, context.command_path
        for param in context.command.params:
            assert str(getattr(param, "help", None)) in part, f"{context.command_path} {param.name}"


class Fetched(HTMLParser):
    """Collects the addresses that a browser fetches by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the address of an element that is fetched."""
        found = dict(attrs)
        if tag in FETCHED and found.get("rel") not in {"canonical", "next", "prev"}:
            self.addresses.append(found.get(FETCHED[tag]) or "")


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="MkDocs comes with the extra `docs`"
)
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    """Every page is in the navigation, every link holds, and no page needs a network."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=quiet)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*.html")}
    made = {"reference/commands.html", "reference/settings.html", "reference/api/index.html"}
    assert made <= pages.keys()
    for name, path in pages.items():
        text = path.read_text(encoding="utf-8")
        outside = [one for one in Fetched(text).addresses if re.match(r"(\w+:)?//", one)]
        assert not outside, name
        assert 'class="mermaid"' not in text, f"{name} makes the theme fetch mermaid"
    update = pages["reference/api/fedmri.html"].read_text(encoding="utf-8")
    assert "What a site returns from a round." in update
