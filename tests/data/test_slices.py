"""Which slices of a volume are used: stride first, then the ends of what was extracted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmri.data.batches.slices import slice_indices, slice_stride, take_slice
from fedmri.data.settings import PrepareConfig
from fedmri.errors import DataError


def config(n: int, first: int, last: int) -> PrepareConfig:
    """Return the settings of a slicing."""
    return PrepareConfig(dimension="2d", n_slices=n, skip_first=first, skip_last=last)


@given(m=st.integers(1, 300), n=st.integers(1, 320), k1=st.integers(0, 9), k2=st.integers(1, 9))
def test_slices_are_those_of_the_plain_indexing(m: int, n: int, k1: int, k2: int) -> None:
    """For up to as many slices as there are: ``volume[::i][k1:-k2]`` with ``i = m // n``."""
    i = max(m // n, 1)
    expected = list(range(m))[::i][k1:-k2]
    if expected:
        assert list(slice_indices(m, config(n, k1, k2))) == expected
    else:
        with pytest.raises(DataError, match="D42"):
            slice_indices(m, config(n, k1, k2))


def test_the_published_example_gives_its_published_count() -> None:
    """180 slices, 60 wanted, 10 left out at each end: ceil(180 / 3) - 20 = 40."""
    assert len(slice_indices(180, config(60, 10, 10))) == 40


def test_nothing_is_lost_where_nothing_is_skipped() -> None:
    """The plain ``[k1:-k2]`` would return no slice at all for ``k2 = 0``."""
    assert slice_indices(7, config(0, 0, 0)) == tuple(range(7))
    assert slice_indices(7, config(3, 2, 0)) == (4, 6)


@pytest.mark.parametrize("n_wanted", [0, 5, 6, 100])
def test_more_slices_than_there_are_are_all_slices(n_wanted: int) -> None:
    """A stride of 0 would never end."""
    assert slice_stride(5, n_wanted) == 1


def test_a_slice_comes_with_its_neighbours_by_modality() -> None:
    """Voxels tell modality and slice as ``10 c + d``; the ends repeat themselves."""
    volume = np.add.outer([0, 10], np.arange(4))[:, :, None, None] * np.ones((1, 1, 2, 3))
    middle, edge = take_slice(volume, 2, 1), take_slice(volume, 0, 2)
    assert middle[:, 0, 0].tolist() == [1, 2, 3, 11, 12, 13]
    assert edge[:, 1, 2].tolist() == [0, 0, 0, 1, 2, 10, 10, 10, 11, 12]
    assert take_slice(volume, 3).shape == (2, 2, 3)
