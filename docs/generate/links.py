"""Links of documents that lead out of the site: to files of the repository, and back."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\[]*)\]\((?P<target>[^()\s]+)\)")
CODE = re.compile(r"^(?P<fence>`{3,})[^\n]*\n.*?^(?P=fence)`*\s*$|`[^`\n]+`", re.M | re.S)
SHOWN = "files"
"""Folder of the site that holds files of the repository which a page links to."""


@dataclass(frozen=True)
class Link:
    """One relative link of a document.

    Attributes:
        target: What it leads to, as a path from the root of the repository.
        anchor: Heading there, without ``#``; empty where the link names none.
        span: Where the link's address stands in the text.
    """

    target: str
    anchor: str
    span: tuple[int, int]


def links_of(text: str, document: str) -> Iterator[Link]:
    """Yield the relative links of a document; what stands in code is no link.

    Args:
        text: The document, in Markdown.
        document: Its path from the root of the repository.
    """
    hidden = [match.span() for match in CODE.finditer(text)]
    for match in LINK.finditer(text):
        address, start = match["target"], match.start()
        if re.match(r"[a-z]+:", address) or any(a <= start < b for a, b in hidden):
            continue
        path, _, anchor = address.partition("#")
        place = posixpath.join(posixpath.dirname(document), path) if path else document
        yield Link(posixpath.normpath(place), anchor, match.span("target"))


def for_site(text: str, document: str, pages: Mapping[str, str]) -> str:
    """Return a document whose links lead to pages of the site, or to shown files.

    Args:
        text: The document, in Markdown.
        document: Its path from the root of the repository.
        pages: Place in the site of each document, by its path from the root.
    """
    here, parts, end = posixpath.dirname(pages[document]), [], 0
    for link in links_of(text, document):
        place = pages.get(link.target) or f"{SHOWN}/{link.target}"
        address = posixpath.relpath(place, here or ".")
        anchor = f"#{link.anchor}" if link.anchor else ""
        parts += [text[end : link.span[0]], address + anchor]
        end = link.span[1]
    return "".join([*parts, text[end:]])


def shown_files(root: Path, document: str, pages: Mapping[str, str]) -> set[str]:
    """Return the files of the repository that a document links to and that are no pages."""
    text = (root / document).read_text(encoding="utf-8")
    return {link.target for link in links_of(text, document)} - pages.keys()


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as Markdown's ``toc`` makes them."""
    found: list[str] = []
    for line in CODE.sub(lambda match: match[0].replace("#", " "), text).splitlines():
        if heading := re.match(r"#{1,6} +(.*)", line):
            plain = re.sub(r"[^\w\s-]", "", heading[1]).strip().lower()
            slug = re.sub(r"[-\s]+", "-", plain)
            n_before = sum(re.sub(r"_\d+$", "", other) == slug for other in found)
            found.append(f"{slug}_{n_before}" if n_before else slug)
    return set(found)
