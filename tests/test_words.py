"""Sentences of pages, settings and help are short: one claim each, at most 22 words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from typer.main import get_command

from docs.generate.commands import commands_page, contexts
from docs.generate.links import CODE
from docs.generate.settings import settings_page
from fedmri.cli import app
from fedmri.clients.process.home import SiteConfig
from fedmri.config import Experiment
from fedmri.server.registry.home import ServerConfig
from fedmri.settings.words import sections

MOST_WORDS = 22
ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(path for path in sorted(ROOT.glob("*.md")) if path.name != "CHANGELOG.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
]
NO_PROSE = re.compile(
    r"^(`{3,})[^\n]*\n.*?^\1[^\n]*$"  # blocks of code
    r"|^\s*\|[^\n]*$"  # tables
    r"|^#{1,6} [^\n]*$"  # headings
    r"|<!--.*?-->",
    re.MULTILINE | re.DOTALL,
)
INLINE = re.compile(r"`[^`]+`")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
END = re.compile(r"(?<=[.!?])[)*\"]*\s+(?=\S)")
ABBREVIATION = re.compile(r"\b(?:al|vs|cf|[eE]\.g|i\.e)\.$")
CHAIN = re.compile(r"\b(?:whoever|of which|those (?:that|who)|what of)\b", re.IGNORECASE)
"""Words that let a sentence run on without naming its subject."""
SOURCE = re.compile(r"\([^()]*(?:doi:|arXiv:)[^()]*(?:\([^()]*\)[^()]*)*\)")
WORD = re.compile(r"\w[\w'./%-]*")


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a Markdown document; code, tables and headings are none.

    A source in parentheses, with its DOI or arXiv number, is no part of its sentence.
    """
    prose = NO_PROSE.sub("\n\n", text)
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)", prose):
        line = re.sub(r"^\s*(?:[-*>]|\d+\.)\s+", "", " ".join(paragraph.split()))
        plain = SOURCE.sub("", INLINE.sub("code", LINK.sub(r"\1", line)))
        start = 0
        for end in [*(match.end() for match in END.finditer(plain)), len(plain)]:
            if (
                not ABBREVIATION.search(plain[start:end].rstrip(' )*"'))
                and plain[start:end].strip()
            ):
                yield plain[start:end].strip()
                start = end


def n_words(sentence: str) -> int:
    """Return the words of a sentence; code between backticks is one."""
    return len(WORD.findall(sentence))


def too_long(text: str) -> list[str]:
    """Return the sentences of a text that have too many words, with their number."""
    return [f"{n_words(one)}: {one}" for one in sentences(text) if n_words(one) > MOST_WORDS]


def read(document: Path) -> str:
    """Return a document without blocks of code; its tables stay."""
    return CODE.sub("", document.read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", [*DOCUMENTS, settings_page, commands_page])
def test_a_subject_has_a_name(text: Path | Callable[[], str]) -> None:
    """Pages name their subjects, tables and references too: nobody is a "whoever"."""
    said = read(text) if isinstance(text, Path) else text()
    found = [line for line in said.splitlines() if CHAIN.search(line)]
    assert not found, "\n".join(found)


def test_sentences_are_told_apart() -> None:
    """Lists, abbreviations, links, code and tables, as pages have them."""
    text = (
        "# A heading. Of two\n\nSee [the page](a.md). By Li et al. 2021, it\n"
        "holds `a b. c` (Li 2021, doi:1/2).\n\n"
        "- One.\n- Two, e.g. this.\n\n| a table. | no |\n\n```bash\nno. code\n```\n"
    )
    assert list(sentences(text)) == [
        "See the page.",
        "By Li et al. 2021, it holds code .",
        "One.",
        "Two, e.g. this.",
    ]
    assert n_words("By Li et al. 2021, it's 95 % of code.") == 9


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_sentence_has_at_most_22_words(document: Path) -> None:
    """A reader whose language is another one keeps the whole sentence in mind."""
    long = too_long(document.read_text(encoding="utf-8"))
    assert not long, "\n".join(long)


@pytest.mark.parametrize("kind", [Experiment, SiteConfig, ServerConfig])
def test_a_sentence_about_a_setting_has_at_most_22_words(kind: type[object]) -> None:
    """The reference of settings is made of these docstrings."""
    for section in sections(kind):
        told = [(section.key, section.summary)]
        told += [(setting.key, setting.meaning) for setting in section.settings]
        long = [f"{key}: {one}" for key, text in told for one in too_long(text.replace("``", "`"))]
        assert not long, "\n".join(long)


def test_a_sentence_of_help_has_at_most_22_words() -> None:
    """Commands, options and arguments, as --help shows them."""
    for context in contexts(click.Context(get_command(app), info_name="fedmri")):
        command = context.command
        told = [command.help or "", *(getattr(one, "help", "") or "" for one in command.params)]
        long = [one for text in told for one in too_long(text)]
        assert not long, f"{context.command_path}: {long}"
