"""Votes of classifiers on the federation's features: fitted at home, and tested at home alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from fedmri.simulation.arms.votes import shares_of, voted, with_more
from tests.conftest import RunTiny
from tests.simulation.test_questions import QUICK, SITES, sides, summary_of, who


def test_each_site_votes_on_its_own_patients_alone(run_tiny: RunTiny) -> None:
    """A row of the table; the same bits again; and hard votes with made examples are others."""
    arms = (*QUICK, "simulation.arms=[federated,votes]")
    runs = {
        name: run_tiny(name, *arms, *more)
        for name, more in {
            "soft": (),
            "again": (),
            "hard": ("simulation.vote=hard", "simulation.is_smote=true"),
        }.items()
    }
    assert "votes (own site)" in {row.label for row in summary_of(runs["soft"]).rows}
    answers = {name: [] for name in runs}  # type: ignore[var-annotated]
    for site in SITES:
        tested = who(runs["soft"], f"votes:{site}")
        assert set(tested) == {site}
        assert set(tested[site]) == sides(runs["soft"] / f"prepared/{site}.json")["test"]
        for name, folder in runs.items():
            [path] = (folder / "cases").glob(f"votes-{site}*/seed-0/*.jsonl")
            answers[name] += [
                json.loads(line)["prediction"] for line in path.read_text().splitlines()
            ]
    assert answers["soft"] == answers["again"]
    assert np.sum(answers["hard"], axis=1) == pytest.approx(1)
    assert answers["hard"] != answers["soft"]


def test_a_tie_of_hard_votes_goes_to_the_higher_mean() -> None:
    """Soft votes are the mean; of hard ones the majority wins."""
    tied = [np.array([row]) for row in ([0.6, 0.4, 0], [0.1, 0.8, 0.1], [0, 0.4, 0.6])]
    assert voted(tied, is_hard=True)[0].argmax() == 1
    assert voted(tied, is_hard=False)[0] == pytest.approx(np.mean(tied, axis=0)[0])
    most = [np.array([row]) for row in ([0.51, 0.49], [0.51, 0.49], [0.0, 1.0])]
    assert voted(most, is_hard=True)[0].argmax() == 0
    assert voted(most, is_hard=False)[0].argmax() == 1


@pytest.mark.parametrize("member", [SVC(), KNeighborsClassifier(5)])
def test_a_site_without_a_class_gives_it_no_share(member: object) -> None:
    """A site of one class says that class, and few examples have few neighbours."""
    features, tested = np.array([[0.0], [0.1], [5.0], [5.1]]), np.array([[0.0], [5.0]])
    found = shares_of(member, features, np.array([0, 0, 2, 2]), tested, 3)
    assert found[:, 1] == pytest.approx(0)
    assert found.sum(1) == pytest.approx(1)
    assert not isinstance(member, SVC) or found.argmax(1).tolist() == [0, 2]
    alone = shares_of(member, features, np.array([1, 1, 1, 1]), tested, 3)
    assert alone.tolist() == [[0, 1, 0]] * 2


def test_made_examples_lie_between_two_of_a_rare_class() -> None:
    """Classes end as many; those that were there stay, in their order; a single one has no pair."""
    random = np.random.default_rng(0)
    common, rare = random.normal(size=(9, 2)), np.array([[10.0, 0], [11, 0], [12, 0]])
    features = np.concatenate([common, rare, [[50.0, 50.0]]])
    truths = np.repeat([0, 1, 2], [9, 3, 1])
    more, classes = with_more(features, truths, np.random.default_rng(1))
    assert np.array_equal(more[:13], features)
    assert np.bincount(classes).tolist() == [9, 9, 1]
    made = more[13:]
    assert (made[:, 1] == 0).all()
    assert ((made[:, 0] >= 10) & (made[:, 0] <= 12)).all()
    assert len(np.unique(made[:, 0])) == 6
