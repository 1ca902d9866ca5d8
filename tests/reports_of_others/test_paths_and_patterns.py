"""Paths and patterns with characters that mean something to the reader of settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedmri.config import as_overrides, load, quoted

PATHS = [
    "/a b",
    "/a\\b",
    "/a\\",
    "/a\\\\b",
    "/${HOME}",
    "/a\\${x}",
    '/a"b',
    '/a\\"b',
    "/a'b",
    "/x,[y]{z}",
    "/100%=#:~\u00fc",
    "C:\\data\\new",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_read_as_it_is_written(path: str) -> None:
    """No character of a folder's name is doubled, looked up or cut off.

    Source: hydra-ecosystem/hydra#1600 and #1601 (backslashes), omry/omegaconf#981 (``${``).
    """
    assert load([f"data.source.path={quoted(path)}"]).plan.data.source.path == path


def test_a_pattern_of_a_file_of_settings_matches(tmp_path: Path) -> None:
    r"""``\d`` in YAML stays one backslash: else it matches nothing, and visits are patients."""
    file = tmp_path / "study.yaml"
    file.write_text(
        "data:\n  source:\n    patient_pattern: '^(\\d+)_'\n    modalities: [T1w]\n"
        "    series: ['T1w=t1\\.mpr']\n"
    )
    source = load([], file).plan.data.source
    assert re.match(source.patient_pattern, "007_v2")
    assert source.series == ("T1w=t1\\.mpr",)


def test_settings_go_around_unchanged() -> None:
    """What is written as overrides is what was given, in lists and mappings too."""
    given = {"data": {"source": {"series": ["T1w=a\\b", 'T1w="c"'], "modalities": ["T1w"]}}}
    source = load([*as_overrides(given)]).plan.data.source
    assert source.series == ("T1w=a\\b", 'T1w="c"')
