"""Parts by name: every file is one, says what it is, and is found without being listed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.generate.parts import PAGES, part_pages
from fedmri.claims import Claim, claims_of
from fedmri.data.reader import READERS
from fedmri.errors import ConfigError
from fedmri.models.registry import MODELS
from fedmri.parts import Registry
from fedmri.simulation.protocol import PROTOCOLS
from fedmri.stages.registry import STAGES
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.registry import TASKS

REGISTRIES: tuple[Registry[Any], ...] = (STRATEGIES, STAGES, MODELS, READERS, PROTOCOLS, TASKS)
EACH = [(registry, name) for registry in REGISTRIES for name in registry.own]
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("registry", "name"), EACH, ids=lambda value: str(value).partition("(")[0])
def test_a_part_is_what_its_file_says(registry: Registry[Any], name: str) -> None:
    """Made of its name, written down and read back, it is the same; it names itself."""
    about = getattr(registry.load(name), "example", {})  # a task is about something
    part = registry.made({registry.key: name, **about})
    assert registry.name_of(part) == name
    assert registry.made(registry.as_dict(part)) == part
    assert registry.origin(name) is None


@pytest.mark.parametrize(
    ("registry", "name"),
    [case for case in EACH if case[0] is not READERS],
    ids=lambda value: str(value).partition("(")[0],
)
def test_a_part_names_its_source(registry: Registry[Any], name: str) -> None:
    """In its own class: a source is not inherited in silence."""
    assert vars(registry.load(name))["source"]


@pytest.mark.parametrize("name", STRATEGIES.own)
def test_a_strategy_says_in_its_own_class_what_hospitals_read_and_what_it_claims(name: str) -> None:
    """Claims are not inherited, so a file without them would be refused everywhere."""
    kind = STRATEGIES.load(name)
    assert {"claims", "consent"} <= vars(kind).keys()


@pytest.mark.parametrize("name", STAGES.own)
def test_a_stage_says_in_its_own_class_what_hospitals_read_and_what_it_claims(name: str) -> None:
    """What is inherited in silence may not hold any more."""
    assert {"claims", "consent", "source"} <= vars(STAGES.load(name)).keys()


def test_claims_are_those_of_the_class_alone() -> None:
    """A subclass may have broken what its base promised; of a property they depend on settings."""

    class Silent(FedAvg):
        pass

    assert claims_of(FedAvg()) >= {Claim.SUM_IS_ENOUGH}
    assert claims_of(Silent()) == frozenset()
    normed = [MODELS.made({"name": "cnn5", "norm": norm}) for norm in ("group", "batch")]
    assert [Claim.PATIENTS_APART in claims_of(model) for model in normed] == [True, False]


def test_a_new_file_is_a_part_and_a_file_of_two_classes_is_refused(tmp_path: Path) -> None:
    """No list has to be changed: the folder is the list."""
    folder = tmp_path / "room" / "kinds"
    folder.mkdir(parents=True)
    for path in (folder, folder.parent):
        (path / "__init__.py").touch()
    one = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass One:\n    a: int = 1\n"
    (folder / "single.py").write_text(one)
    (folder / "double.py").write_text(f"{one}class Other: ...\n")
    code = (
        "from fedmri.parts import Registry\n"
        "from fedmri.errors import ConfigError\n"
        "registry = Registry('kind', 'room', ('kinds',), 'nobody')\n"
        "print(registry.names, registry.made({'name': 'single', 'a': 3}))\n"
        "try:\n    registry.load('double')\nexcept ConfigError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first == "('double', 'single') One(a=3)"
    assert "found One, Other, want one public class" in second
    assert "[C40]" in second


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "fedprox", "mo": 1}, r"strategy.mo.*nearest is strategy.mu.*\[C02\]"),
        ({"name": "fedavg", "mu": 1}, r"strategy.mu.*strategy is fedavg.*\[C02\]"),
        ({"name": "fedprox", "mu": "much"}, r"strategy.mu: found 'much', want a number.*\[C01\]"),
        ({"name": "fedprox", "mu": -1.0}, r"strategy.mu: found -1.0, want 0 or more.*\[C01\]"),
        ({"mu": 1.0}, r"strategy: found '', want one of.*\[C01\]"),
        (7, r"strategy: found 7, want a name, or a section.*\[C01\]"),
    ],
)
def test_values_that_make_no_part_are_answered_with_what_would(values: object, said: str) -> None:
    """Each mistake has one clear error."""
    with pytest.raises(ConfigError, match=said):
        STRATEGIES.made(values)


def test_the_pages_of_parts_have_every_part_and_every_refusal() -> None:
    """They are made of the claims that the code goes by."""
    pages = part_pages()
    for name, (_, registry, _) in PAGES.items():
        text = pages[f"reference/parts/{name}.md"]
        assert all(f"\n## {part}\n" in text for part in registry.own)
    rows = pages["reference/parts/tasks.md"].splitlines()
    assert "| `survival` | yes |" in rows
    rows = pages["reference/parts/strategies.md"].splitlines()
    (krum,) = [row for row in rows if row.startswith("| `krum` |")]
    assert krum.split(" | ")[1] == "no"
    (fedavg,) = [row for row in rows if row.startswith("| `fedavg` |")]
    assert "no" not in fedavg.split(" | ")[1:]
