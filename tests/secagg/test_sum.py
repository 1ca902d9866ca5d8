"""What the server ends with: the sum, whoever dropped out and whenever."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedmri.errors import PrivacyError
from fedmri.secagg.ring import BLOCK, Slot, encode
from fedmri.secagg.secure_sum import SecureSum
from tests.secagg.parties import (
    SLOTS,
    Dropouts,
    Parties,
    as_lists,
    keys_of,
    names,
    parties,
    plain_sum,
    values_of,
)


@pytest.mark.parametrize("n_sites", [3, 4, 7])
def test_the_sum_of_all_sites_is_exact(n_sites: int) -> None:
    """Masks cancel to the last bit: the result is the sum of rounded values in whole numbers."""
    all_sites = parties(n_sites)
    assert as_lists(all_sites.play()) == plain_sum(all_sites.values.values(), SLOTS)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_dropouts_end_in_the_sum_of_survivors_or_a_refusal(data: st.DataObject) -> None:
    """At or above the threshold the sum is over those that masked; below it there is none."""
    n_sites = data.draw(st.integers(3, 6))
    all_sites = parties(n_sites, data.draw(st.integers(0, 99)))
    stages = ["advertise", "share", "mask", "reveal", "stays", "stays", "stays"]
    when = {name: data.draw(st.sampled_from(stages)) for name in all_sites.sum.sites}
    lost = {stage: frozenset(name for name in when if when[name] == stage) for stage in stages[:4]}
    n_left = list(when.values()).count("stays")
    if n_left < all_sites.sum.n_needed:
        with pytest.raises(PrivacyError, match="P51"):
            all_sites.play(Dropouts(**lost))
        return
    summed = [v for name, v in all_sites.values.items() if when[name] in {"stays", "reveal"}]
    assert as_lists(all_sites.play(Dropouts(**lost))) == plain_sum(summed, SLOTS)


def test_the_order_of_arrival_does_not_change_a_bit() -> None:
    """Addition in a ring is exact, so the server may add whoever comes first."""
    results = []
    for order in (1, -1):
        all_sites = parties(4)
        roster = all_sites.advertise()
        inboxes = all_sites.share(roster)
        masked = all_sites.mask(inboxes)
        running = all_sites.server.start(inboxes)
        for name in sorted(masked)[::order]:
            running = all_sites.server.add(running, name, masked[name])
        reveals = all_sites.reveal(all_sites.server.survivors(running))
        results.append(as_lists(all_sites.server.unmask(running, roster, reveals)))
    assert results[0] == results[1]


def constant(value: float, n: int) -> Parties:
    """Return three sites with the same long vector of one value."""
    all_sites = parties(3)
    all_sites.sum = replace(all_sites.sum, slots={"model": Slot((n,))})
    all_sites.values = {name: {"model": np.full(n, value)} for name in all_sites.sum.sites}
    return all_sites


def test_a_masked_vector_looks_like_noise() -> None:
    """Equal zeros of all sites go out as bytes that pass a test for uniform ones, to the end."""
    all_sites = constant(0, 2 * BLOCK + 1000)
    vectors = [m.vector for m in all_sites.mask(all_sites.share(all_sites.advertise())).values()]
    for vector in vectors:
        for part in (vector[:1000], vector, vector[-1000:]):
            counts = np.bincount(part.view(np.uint8), minlength=256)
            assert stats.chisquare(counts).pvalue > 1e-4
    # nor does a block of the mask come again
    first = vectors[0]
    assert not (first[:BLOCK] == first[BLOCK : 2 * BLOCK]).any()
    assert not any((a == b).any() for a, b in pairwise(vectors))


def test_the_sum_of_long_vectors_is_exact_to_the_end() -> None:
    """Masks are made and taken off block by block, and the last block is not whole."""
    n = 2 * BLOCK + 1000
    assert (
        constant(-0.75, n).play(Dropouts(mask=frozenset({"site1"})))["model"].tolist() == [-1.5] * n
    )


def test_no_entry_goes_out_as_it_is() -> None:
    """Of no site is a single value sent unmasked, not even where others dropped out."""
    all_sites = parties(4)
    inboxes = all_sites.share(all_sites.advertise(), {names(4)[0]})
    for name, message in all_sites.mask(inboxes).items():
        plain = encode(all_sites.values[name], SLOTS, 4)
        assert not (message.vector == plain).any()


def test_a_late_vector_of_a_dropped_site_stays_masked() -> None:
    """The server that recovers a site's key and gets its values after all still lacks its seed."""
    all_sites = parties(4)
    late = all_sites.sum.sites[0]
    roster = all_sites.advertise()
    inboxes = all_sites.share(roster)
    masked = all_sites.mask(inboxes)
    running = all_sites.server.start(inboxes)
    for name in masked.keys() - {late}:
        running = all_sites.server.add(running, name, masked[name])
    reveals = all_sites.reveal(all_sites.server.survivors(running))
    assert all(r.of_seed.keys() == {*masked} - {late} for r in reveals.values())
    assert all(r.of_key.keys() == {late} for r in reveals.values())


def test_two_sites_are_refused() -> None:
    """Each of two would have the other's values from the sum."""
    with pytest.raises(PrivacyError, match=r"found 2 sites, want 3 or more.*P50"):
        SecureSum("a plan", 1, keys_of(2), SLOTS)


@pytest.mark.parametrize(("n_sites", "default"), [(3, 2), (4, 3), (5, 4), (6, 4), (20, 14)])
def test_the_threshold_is_two_thirds(n_sites: int, default: int) -> None:
    """Rounded up; at half of the sites or below, one that lies could collect both secrets."""
    keys = keys_of(n_sites)
    assert SecureSum("a plan", 1, keys, SLOTS).n_needed == default
    for threshold in (n_sites // 2, n_sites + 1, -1):
        with pytest.raises(PrivacyError, match="P50"):
            SecureSum("a plan", 1, keys, SLOTS, threshold)


def test_a_key_counts_as_one_site() -> None:
    """Whoever holds two places would be two sites towards the threshold."""
    keys = keys_of(3)
    twice = keys | {"site1": keys["site0"]}
    with pytest.raises(PrivacyError, match=r"one key twice.*P50"):
        SecureSum("a plan", 1, twice, SLOTS)


def test_sums_as_large_as_combats_are_carried() -> None:
    """Ten million with nine digits after the point: 32 bits round each value by 1.2e-10 at most."""
    all_sites = parties(7)
    exact = np.sum([values_of(i)["age2"] for i in range(7)], axis=0, dtype=np.float64)
    np.testing.assert_allclose(all_sites.play()["age2"], exact, rtol=0, atol=1e-8)
    assert exact.max() > 2e7
