"""Patients to sides: by hash, by stratum, and never on two."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedmri.data.batches.site_data import Example, Split
from fedmri.data.batches.split import refuse_leaks, split_subjects, unit_hash
from fedmri.data.scans import Scan
from fedmri.data.settings import SplitConfig
from fedmri.errors import DataError
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression

KIND = Classification("kind", ("a", "b"))
AGE = Regression("age")
CONFIG = SplitConfig(val=0.15, test=0.25)
SEEDS = st.integers(0, 2**40)


def scan(number: int, site: str = "x", kind: str = "a", session: str = "") -> Scan:
    """Return a scan of the patient of a number."""
    return Scan(site, f"sub{number}", session, {}, columns={"kind": kind})


def by_hash(number: int, seed: int) -> Split:
    """Return the side that the hash alone gives: test below 0.25, validation below 0.40."""
    value = unit_hash(seed, f"sub{number}")
    return "test" if value < 0.25 else "val" if value < 0.40 else "train"


@given(seed=SEEDS, n_subjects=st.integers(20, 60))
@settings(max_examples=50, deadline=None)
def test_another_patient_moves_no_other(seed: int, n_subjects: int) -> None:
    """A hospital that goes on recruiting keeps its test patients."""
    expected = {f"sub{i}": by_hash(i, seed) for i in range(n_subjects)}
    assume(len(set(list(expected.values())[:-1])) == 3)
    scans = [scan(i) for i in range(n_subjects)]
    assert split_subjects(scans, AGE, CONFIG, seed) == expected
    fewer = split_subjects(scans[:-1], AGE, CONFIG, seed)
    assert fewer.items() <= expected.items()


@given(seed=SEEDS, n_each=st.integers(3, 9))
@settings(max_examples=50, deadline=None)
def test_every_stratum_of_three_patients_is_on_every_side(seed: int, n_each: int) -> None:
    """A class that no test patient has would never be tested."""
    kinds = {"a": 0, "b": 100}
    scans = [
        scan(first + i, site, kind)
        for shift, site in ((0, "x"), (1000, "y"))
        for kind, first in ((kind, base + shift) for kind, base in kinds.items())
        for i in range(n_each)
    ]
    splits = split_subjects(scans, KIND, CONFIG, seed)
    sides = Counter((s.site, s.columns["kind"], splits[s.subject]) for s in scans)
    assert len(sides) == 2 * 2 * 3


def test_an_empty_side_gets_the_patient_nearest_to_it() -> None:
    """Nobody else moves, so that few patients change sides when the site grows."""
    n_tried = 0
    for seed in range(200):
        hashed = {f"sub{i}": by_hash(i, seed) for i in range(5)}
        if set(hashed.values()) != {"train", "test"}:
            continue
        splits = split_subjects([scan(i) for i in range(5)], AGE, CONFIG, seed)
        moved = [subject for subject in splits if splits[subject] != hashed[subject]]
        may_leave = [s for s in hashed if Counter(hashed.values())[hashed[s]] > 1]
        gaps = {s: max(0.25 - unit_hash(seed, s), unit_hash(seed, s) - 0.40) for s in may_leave}
        assert moved == [min(gaps, key=lambda subject: gaps[subject])]
        assert splits[moved[0]] == "val"
        n_tried += 1
    assert n_tried > 10


def test_shares_are_those_asked_for() -> None:
    """Of 4,000 patients a quarter is tested on: 1,000 give or take four deviations of 27."""
    splits = split_subjects([scan(i) for i in range(4000)], AGE, CONFIG, 1)
    counts = Counter(splits.values())
    assert abs(counts["test"] - 1000) < 110
    assert abs(counts["val"] - 600) < 92


@pytest.mark.parametrize("n_subjects", [1, 2, 3, 12])
def test_a_side_that_is_not_wanted_stays_empty(n_subjects: int) -> None:
    """Without a validation share nobody is taken from training for it."""
    scans = [scan(i) for i in range(n_subjects)]
    splits = split_subjects(scans, AGE, SplitConfig(val=0, test=0.3), 4)
    assert set(splits) == {s.subject for s in scans}
    assert "val" not in splits.values()


def test_order_and_number_of_scans_do_not_matter() -> None:
    """The side belongs to the patient, whatever is scanned of them and in whatever order."""
    scans = [scan(i) for i in range(30)]
    more = [scan(i, session="2") for i in range(0, 30, 2)]
    expected = split_subjects(scans, KIND, CONFIG, 0)
    assert split_subjects([*more, *reversed(scans)], KIND, CONFIG, 0) == expected


def test_a_patient_at_two_sites_is_refused() -> None:
    """The two sites could put them on two sides of the split."""
    scans = [scan(1, "x"), scan(1, "y"), scan(2, "y")]
    with pytest.raises(DataError, match=r"found 1 \(sub1 at x, y\).*\[D17\]"):
        split_subjects(scans, AGE, CONFIG, 0)


def example(subject: str, split: Split, image: str) -> Example:
    """Return an example whose scan is named as its patient and image."""
    return Example(
        "x", subject, f"{subject}_{image}", split, Path(image), None, None, 0.0, (True,), (1.0,)
    )


CLEAN = (example("p", "train", "i"), example("p", "train", "j"), example("q", "test", "k"))


def test_a_clean_split_passes() -> None:
    """Copies of an image on one side harm no test."""
    refuse_leaks([*CLEAN, replace(CLEAN[0], subject="r", scan="r_i")])


def test_a_patient_on_two_sides_is_refused() -> None:
    """A model that saw the patient is not tested by another scan of theirs."""
    leak = replace(CLEAN[1], split="test")
    with pytest.raises(DataError, match=r"patients .* found 1 \(p_i in train, p_j in test\).*D40"):
        refuse_leaks([*CLEAN, leak])


def test_an_image_on_two_sides_is_refused() -> None:
    """The same file under two patients' names is one image."""
    leak = example("r", "test", "i")
    with pytest.raises(DataError, match=r"images .* found 1 \(p_i in train, r_i in test\).*D41"):
        refuse_leaks([*CLEAN, leak])


def test_one_shared_modality_is_a_leak() -> None:
    """Two scans of which only the T1w is the same still share an image."""
    contents = {
        ("x", "p_i"): ("t1", "flair"),
        ("x", "p_j"): ("x",),
        ("x", "q_k"): ("t1", "other flair"),
    }
    with pytest.raises(DataError, match="D41"):
        refuse_leaks(CLEAN, contents)
