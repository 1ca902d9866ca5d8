"""The page of models: its table is what the source code makes."""

from __future__ import annotations

import re

import pytest

from docs.generate.zoo import BEGIN, END, PAGE, row, table, with_table
from fedmri.models.registry import MODELS

TEXT = PAGE.read_text(encoding="utf-8")


def test_every_model_has_a_row_in_the_order_of_the_registry() -> None:
    """A new file makes the table stale: python -m docs.generate.zoo."""
    within = TEXT.partition(BEGIN)[2].partition(END)[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", within, re.MULTILINE)) == tuple(MODELS.own)


@pytest.mark.parametrize("name", ["cnn5", "cnn3d", "mednet", "unet"])
def test_a_row_is_what_the_network_is(name: str) -> None:
    """Parameters and arithmetic of small networks; the slow test has all."""
    assert row(name) in TEXT


def test_the_first_convolutions_arithmetic_is_counted_by_hand() -> None:
    """CNN5 on 128 x 128: two operations a weight and place, and those of two linear layers."""
    places = (128 * 128 * 9 * 32) + (64 * 64 * 9 * 32 * 64) + (32 * 32 * 9 * 64 * 128)
    assert f"{2 * (places + 128 * 64 + 64 * 3) / 1e9:.2f}" == row("cnn5").split(" | ")[3]


@pytest.mark.slow
def test_the_whole_table_is_as_the_source_makes_it() -> None:
    """All models at their default sizes."""
    assert with_table(TEXT, table()) == TEXT
