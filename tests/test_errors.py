"""Codes, classes and documentation of errors agree."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from fedmri import errors
from fedmri.agreement.consortium import read_consortium
from fedmri.clients.process.keys import public_half
from fedmri.errors import CODES, FedmriError
from fedmri.server.registry.home import ServerHome

ROOT = Path(__file__).parents[1]
CLASSES = {
    "U": errors.UsageError,
    "D": errors.DataError,
    "C": errors.ConfigError,
    "P": errors.PrivacyError,
    "N": errors.NetworkError,
    "R": errors.RoundError,
    "H": errors.HarmonizeError,
}


@cache
def written() -> tuple[frozenset[str], tuple[tuple[str, str], ...]]:
    """Return every code that stands in the source, and what exceptions are made with which.

    The table of codes itself is left out.
    """
    kinds = {kind.__name__ for kind in CLASSES.values()}
    texts, raised = set[str](), list[tuple[str, str]]()
    folders = [ROOT / name for name in ("fedmri", "server", "clients", "simulation")]
    for file in (file for folder in folders for file in folder.rglob("*.py")):
        for node in nodes_of(ast.parse(file.read_text(), file)):
            match node:
                case ast.Constant(value=str(text)) if re.fullmatch(r"[A-Z]\d\d", text):
                    texts.add(text)
                case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=code), *_]):
                    raised += [(name, str(code))] if name in kinds else []
    return frozenset(texts), tuple(raised)


def nodes_of(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes of a file, but for those of the assignment of ``CODES``."""
    for statement in tree.body:
        target = statement.target if isinstance(statement, ast.AnnAssign) else None
        if getattr(target, "id", "") != "CODES":
            yield from ast.walk(statement)


def test_every_code_is_used_and_every_used_code_is_listed() -> None:
    """A code that is not listed cannot be looked up; one that is never used misleads."""
    assert written()[0] == set(CODES)


def test_every_code_has_one_section_in_the_documentation() -> None:
    """Someone who reads ``[D07]`` on a screen finds out what to do about it."""
    documented = re.findall(r"^## ([A-Z]\d\d)\b", (ROOT / "docs/errors.md").read_text(), re.M)
    assert sorted(documented) == sorted(CODES)


def test_the_letter_of_a_code_is_that_of_its_class() -> None:
    """A code tells at sight which exit status the process had."""
    strays = [(name, code) for name, code in written()[1] if CLASSES[code[0]].__name__ != name]
    assert strays == []


@pytest.mark.parametrize(
    ("letter", "exit_code"), [("U", 2), ("D", 3), ("C", 4), ("P", 5), ("N", 6), ("R", 7), ("H", 3)]
)
def test_each_class_has_a_fixed_exit_code(letter: str, exit_code: int) -> None:
    """Scripts tell what went wrong by the exit status; 1 stays for bugs."""
    assert CLASSES[letter].exit_code == exit_code


@pytest.mark.parametrize("letter", CLASSES)
def test_only_kind_and_code_may_travel(letter: str) -> None:
    """The message names a path at the site; the public half shows nothing of it."""
    code = f"{letter}01"
    error: FedmriError = CLASSES[letter](code, "/home/x/sub-1", found="1", want="2", fix="move it")
    assert str(error) == f"/home/x/sub-1: found 1, want 2. To fix: move it. [{code}]"
    assert error.public == f"{CLASSES[letter].kind} error {code}"


BROKEN = {
    "missing": None,
    "a folder": Path(),
    "empty": b"",
    "cut off": b'{"site',
    "another list": b"[1]",
    "without its fields": b"{}",
    "not text": b"\xff\xfe\x00",
}


def registry(path: Path) -> object:
    """Read the registry of a server's folder that is made of one file."""
    home = ServerHome(path.parent / "server")
    home.registry.parent.mkdir()
    path.rename(home.registry)
    return home.sites()


@pytest.mark.parametrize(
    "reader", [read_consortium, public_half, registry], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("name", BROKEN)
def test_what_was_found_is_said_in_words(
    tmp_path: Path, reader: Callable[[Path], object], name: str
) -> None:
    """No reader knows what a JSONDecodeError is, or a class of ours."""
    path, content = tmp_path / "file", BROKEN[name]
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    if reader is registry and name == "missing":
        pytest.skip("a server without a site yet has no registry")
    with pytest.raises(FedmriError) as caught:
        reader(path)
    assert not re.search(r"[A-Z]\w+Error|Consortium|Registry|Errno", str(caught.value))
