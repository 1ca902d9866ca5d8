"""Aggregates over patients, doubt and distance: arithmetic that can be worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fedmri.errors import UsageError
from fedmri.explain.distance import MODEL, KnownScans, read_sums
from fedmri.explain.judged import (
    MaskFolder,
    by_patient,
    likeness,
    mean_difference,
    mean_share,
    share_inside,
    verdict,
)
from fedmri.explain.record import shown_rows
from fedmri.explain.uncertainty import doubt_of, dropping, n_dropouts, passes, selection


def test_the_share_of_a_map_in_a_mask_is_its_sum_there() -> None:
    """A map of zeros has no share."""
    saliency, mask = np.array([1.0, 3.0, 4.0]), np.array([False, True, False])
    assert share_inside(saliency, mask) == pytest.approx(3 / 8)
    assert math.isnan(share_inside(np.zeros(3), mask))


def test_scans_of_a_patient_count_once() -> None:
    """The unit of every interval is the patient."""
    assert by_patient({"a": [0.0, 1.0], "b": [0.2, math.nan], "c": [math.nan]}) == (0.5, 0.2)


def test_an_interval_of_shares_stays_within_them_and_needs_five_patients() -> None:
    """Few patients cannot show that some maps miss the lesion."""
    few, many = mean_share([0.2, 0.3, 0.25]), mean_share([0.2, 0.3, 0.25, 0.4, 0.1, 0.22])
    assert not few.has_interval
    assert 0 < many.low < many.value < many.high < 1
    gain = mean_difference([0.1, -0.2, 0.05, 0.3])
    assert gain.value == pytest.approx(0.0625)
    assert gain.low < 0 < gain.high


def test_likeness_is_of_ranks_within_the_head() -> None:
    """A monotone change of a map is the same map; a flat one cannot be compared."""
    first, inside = np.array([1.0, 2.0, 3.0, 9.0]), np.array([True, True, True, False])
    assert likeness(first, np.exp(first), inside) == pytest.approx(1)
    assert likeness(first, -first, inside) == pytest.approx(-1)
    assert math.isnan(likeness(first, np.ones(4), inside))
    assert verdict([0.1, -0.2]) == "changes"
    assert verdict([0.9, 0.8]).startswith("stays the same")
    assert verdict([math.nan]) == "unknown"


def test_members_that_contradict_each_other_differ_by_all_of_the_doubt() -> None:
    """Sure of opposite classes: ln 2 in all, and between them; unsure alike: nothing between."""
    sure = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])]
    apart = doubt_of(sure)
    assert float(apart.total) == pytest.approx(math.log(2))
    assert float(apart.between) == pytest.approx(math.log(2))
    alike = doubt_of([torch.full((1, 2), 0.5)] * 3)
    assert float(alike.total) == pytest.approx(math.log(2))
    assert float(alike.between) == pytest.approx(0, abs=1e-7)
    assert alike.n_members == 3
    values = doubt_of([torch.tensor([[1.0]]), torch.tensor([[3.0]])])
    assert (float(values.mean), float(values.total)) == (2.0, 1.0)


def test_passes_drop_values_and_leave_norm_layers_alone() -> None:
    """The seed decides what is dropped; afterwards the network is in evaluation mode again."""
    network = nn.Sequential(nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 1)).eval()
    rows, before = torch.randn(4, 64), network[0].running_mean
    assert n_dropouts(network) == 1
    with dropping(network):
        assert network[1].training
        assert not network[0].training
    first, second = (list(passes(network, lambda n: n(rows), 3, 5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])
    assert network[0].running_mean is before
    assert not any(module.training for module in network.modules())


def test_doubt_that_knows_every_error_is_the_best_and_flat_doubt_is_chance() -> None:
    """Areas lie between; the curve ends at the mean risk."""
    risks = [0.0, 0.0, 1.0, 0.0, 1.0]
    knowing, flat, wrong = (
        selection(doubts, risks) for doubts in ([0, 1, 8, 2, 9], [1] * 5, [9, 8, 1, 7, 0])
    )
    assert knowing is not None
    assert flat is not None
    assert wrong is not None
    assert knowing.area == knowing.best == pytest.approx((0 + 0 + 0 + 1 / 4 + 2 / 5) / 5)
    assert flat.area == pytest.approx(flat.by_chance) == pytest.approx(0.4)
    assert wrong.area > flat.area
    assert knowing.risk[-1] == wrong.risk[-1] == 0.4
    assert selection([1.0, 2.0], [0.0, math.nan]) is None


def rows(n: int, seed: int = 0) -> torch.Tensor:
    """Return embeddings of two features, the first with ten times the spread."""
    draws = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draws * torch.tensor([10.0, 1.0])


def test_distance_counts_in_the_spread_of_the_known_scans(tmp_path: Path) -> None:
    """Five off along the wide feature is usual, along the narrow one it is not."""
    known = KnownScans.of(rows(200), rows(200, 1), "abc")
    sums = known.embedding
    wide, narrow = (sums.distance(torch.tensor(at)) for at in ([5.0, 0.0], [0.0, 5.0]))
    assert wide < sums.usual < narrow
    weight = 2 / 202  # of the shrinkage: two features, 200 scans
    variance = (1 - weight) * 1 + weight * (100 + 1) / 2
    assert narrow == pytest.approx(5 / math.sqrt(2 * variance), rel=0.15)
    known.write(tmp_path / "sums.safetensors")
    again = read_sums(tmp_path / "sums.safetensors", "abc")
    assert again.embedding.distance(torch.tensor([0.0, 5.0])) == narrow
    assert again.embedding.n_scans == 200
    assert again.embedding.usual == sums.usual
    assert again.look.usual == known.look.usual
    assert again.look.usual != again.embedding.usual
    with pytest.raises(UsageError, match=r"another model.*\[U70\]"):
        read_sums(tmp_path / "sums.safetensors", "other")


def test_a_file_with_more_than_sums_is_refused(tmp_path: Path) -> None:
    """What is there beside the two kinds of sums is not passed over."""
    KnownScans.of(rows(9), rows(9), "abc").write(tmp_path / "sums.safetensors")
    tensors = load_file(tmp_path / "sums.safetensors")
    for name in ("other.first", "look.more"):
        more = tensors | {name: torch.zeros(1)}
        save_file(more, tmp_path / "more.safetensors", {MODEL: "abc"})
        with pytest.raises(UsageError, match=r"tensors that are no sums.*\[U70\]"):
            read_sums(tmp_path / "more.safetensors", "abc")


def test_few_scans_make_no_sums() -> None:
    """Two scans could be read from their sums."""
    with pytest.raises(UsageError, match=r"found 2, want 3 or more.*\[U74\]"):
        KnownScans.of(rows(2), rows(2), "abc")


@pytest.mark.parametrize("n", [4, 5, 9, 12, 57, 230])
def test_no_single_patient_lies_between_two_points_of_a_curve(n: int) -> None:
    """The last point is all patients; a curve of fewer than five has none."""
    ends = [0, *(row + 1 for row in shown_rows(n))]
    assert all(after - before >= 5 for before, after in pairwise(ends))
    assert ends[-1] == (n if n >= 5 else 0)


def test_masks_lie_in_a_folder(tmp_path: Path) -> None:
    """A mistyped name is no data set without masks."""
    with pytest.raises(UsageError, match=r"--masks.*\[U01\]"):
        MaskFolder.of(tmp_path / "none")
