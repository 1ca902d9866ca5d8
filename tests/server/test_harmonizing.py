"""Sums over sites at the server: what is added, and of whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from fedmri.errors import HarmonizeError
from fedmri.harmonize.sums import Arrays
from fedmri.server.rounds.exchange import Answer
from fedmri.server.rounds.in_clear import added
from fedmri.server.rounds.run import SumForm
from fedmri.wire import Sums, content_of

OF_SITES = {"a": [1.0, 2.0], "b": [10.0, 20.0], "c": [100.0, 200.0], "d": [np.nan, 0.0]}
FORM = SumForm({"sum": (2,)})


def _one_buffer(sites: Sequence[str]) -> Iterator[Answer]:
    """Answer as a pool of workers does: each in the memory of the one before."""
    buffer = torch.zeros(2, dtype=torch.float64)
    for site in sites:
        buffer.copy_(torch.tensor(OF_SITES[site]))
        yield Answer(site, content_of(Sums(site, {"sum": buffer}, 1, 1)))


def test_answers_that_share_their_memory_are_added_each() -> None:
    """A site's sums are in the total before the next answer is taken."""
    total = added(_one_buffer(("a", "b", "c")), FORM, {})
    np.testing.assert_array_equal(total["sum"], [111.0, 222.0])


def test_a_site_with_nan_is_left_out_and_named() -> None:
    """The others' sums stand."""
    left_out: dict[str, str] = {}
    total = added(_one_buffer(("a", "d", "b")), FORM, left_out)
    np.testing.assert_array_equal(total["sum"], [11.0, 22.0])
    assert left_out == {"d": "R04"}


def test_no_usable_answer_gives_no_total() -> None:
    """The caller says who is missing; nothing is made up."""
    left_out: dict[str, str] = {}
    assert added(_one_buffer(("d",)), FORM, left_out) == {}
    assert left_out == {"d": "R04"}


def test_a_site_whose_sums_cannot_be_true_is_left_out_and_named() -> None:
    """Whatever the stage refuses of one site, the others' sums stand."""

    def refuse(sums: Arrays) -> None:
        if sums["sum"][0] > 50:
            raise HarmonizeError("H01", "sums", found="more than 50", want="less", fix="look")

    left_out: dict[str, str] = {}
    total = added(_one_buffer(("a", "c", "b")), SumForm({"sum": (2,)}, refuse), left_out)
    np.testing.assert_array_equal(total["sum"], [11.0, 22.0])
    assert left_out == {"c": "H01"}
