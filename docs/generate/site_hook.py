"""What MkDocs is told of the site: pages that are made from the source, and links that leave it."""

from __future__ import annotations

import posixpath
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # MkDocs runs a hook as a file, not as a module of a package

from docs.generate.api import api_pages  # noqa: E402
from docs.generate.commands import commands_page  # noqa: E402
from docs.generate.links import SHOWN, for_site, shown_files  # noqa: E402
from docs.generate.parts import part_pages  # noqa: E402
from docs.generate.settings import settings_page  # noqa: E402

AT_THE_TOP = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
}
"""Documents at the top of the repository, and their places in the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and the files of the repository that pages link to."""
    made = {place: (ROOT / name).read_text("utf-8") for name, place in AT_THE_TOP.items()}
    made |= {"reference/commands.md": commands_page(), "reference/settings.md": settings_page()}
    made |= part_pages() | api_pages(ROOT)
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    pages = documents(files)
    linked = {name for document in pages for name in shown_files(ROOT, document, pages)}
    for name in sorted(linked):
        for place, content in shown(name).items():
            files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to the repository's own files lead to where the site shows them."""
    pages = documents(files)
    for document, place in pages.items():
        if place == page.file.src_uri:
            return for_site(markdown, document, pages | folders(files))
    return markdown


def documents(files: Files) -> dict[str, str]:
    """Return the place in the site of each written document, by its path in the repository."""
    written = {f"docs/{f.src_uri}": f.src_uri for f in files.documentation_pages()}
    return {name: place for name, place in written.items() if (ROOT / name).exists()} | AT_THE_TOP


def folders(files: Files) -> dict[str, str]:
    """Return the place in the site of each folder of the repository that is shown."""
    start, end = f"{SHOWN}/", "/index.md"
    places = [file.src_uri for file in files.documentation_pages()]
    return {
        place.removeprefix(start).removesuffix(end): place
        for place in places
        if place.startswith(start) and place.endswith(end)
    }


def shown(name: str) -> dict[str, str]:
    """Return a file or folder of the repository as files of the site; nothing if it is neither."""
    path = ROOT / name
    if path.is_file():
        return {f"{SHOWN}/{name}": path.read_text("utf-8")}
    if not path.is_dir():
        return {}
    below = {f.relative_to(ROOT).as_posix(): f for f in sorted(path.rglob("*")) if f.is_file()}
    lines = [f"- [{other}]({posixpath.relpath(other, name)})" for other in below]
    page = "\n".join([f"# Files of `{name}`", "", *lines, ""])
    return {f"{SHOWN}/{name}/index.md": page} | {
        f"{SHOWN}/{other}": file.read_text("utf-8") for other, file in below.items()
    }
