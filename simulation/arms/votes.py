"""Votes of classifiers that each site fits to the features of the federation's model, for itself.

A support vector is a patient's own features, neighbours are too, and a leaf may hold one patient.
So no classifier leaves its site, nor is one tested elsewhere: what federates is the network alone.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import softmax
from torch import nn

from fedmri.arm import Arm
from fedmri.clients.training.results import write_cases
from fedmri.data.batches.examples import open_site
from fedmri.data.batches.site_data import SiteData, Split
from fedmri.errors import UsageError
from fedmri.machine.file_names import file_name
from fedmri.models.embedding import embedding_of
from fedmri.models.weights import layout
from fedmri.plan import Plan
from fedmri.simulation.arms.arm_runs import ArmRun, by_strategy
from fedmri.simulation.baselines.linear import cases_of
from fedmri.simulation.settings import SimulationConfig
from fedmri.tasks.task import Case
from fedmri.trained.file.model_file import ModelFile, read_model
from fedmri.trained.file.names import MODEL
from fedmri.trained.harmonized import as_trained
from fedmri.trained.predict import make_network, refuse_incomplete
from fedmri.training.computing.device import reproducible

log = logging.getLogger("fedmri.simulation")

Array = NDArray[np.float64]
N_TREES, N_NEIGHBOURS = 200, 5
_OF_TIES = 1e-3
"""Weight of mean probabilities beside hard votes: they decide ties, and nothing else."""


def vote_arms(runs: Sequence[ArmRun], plan: Plan, config: SimulationConfig) -> tuple[Arm, ...]:
    """Return the arms that ``write_votes`` may write."""
    federations = list(_federations(runs, plan, config))
    sites = dict.fromkeys(name for run in federations for name in run.members)
    return tuple(Arm("votes", site=name) for name in sites)


def write_votes(folder: Path, runs: Sequence[ArmRun], plan: Plan, config: SimulationConfig) -> None:
    """Write the test cases of each site's votes on its own test patients.

    Of several strategies it is the first one's model. Classes alone are voted on.

    Source:
        The parallel network with SVM, forest and neighbours of a review; Chawla et al. 2002,
        doi:10.1613/jair.953 (SMOTE).
    """
    for run in _federations(runs, plan, config):
        path = folder / "arms" / run.path / MODEL
        if not path.exists():
            continue  # its arm failed, which is told
        file = read_model(path)
        try:
            refuse_incomplete(file)
        except UsageError as error:
            log.warning("no votes: %s", error)
            continue
        for site in run.members:
            own = folder / "cases" / run.folder_of(Arm("votes", site=site))
            own.mkdir(parents=True, exist_ok=True)
            cases = _site_votes(file, run.prepared[site], config, run.plan.seed)
            write_cases(own / f"{file_name(site)}.jsonl", cases)


def _federations(runs: Sequence[ArmRun], plan: Plan, config: SimulationConfig) -> Iterator[ArmRun]:
    if "votes" in config.arms and plan.target.n_groups > 1:
        first = next(by_strategy(plan, config))[0]
        yield from (run for run in runs if run.arm == first)


def _site_votes(
    file: ModelFile, prepared: Sequence[Path], config: SimulationConfig, seed: int
) -> list[Case]:
    plan, network = file.card.plan, make_network(file)
    data = as_trained(open_site(prepared, plan.target, plan.data), file)
    if not (data.examples("train") and data.examples("test")):
        return []
    features, tested = (_features(network, data, side, plan) for side in ("train", "test"))
    truths = np.array([example.target for example in data.examples("train")], dtype=np.intp)
    centre, scale = features.mean(0), np.maximum(features.std(0), 1e-9)
    features, tested = (features - centre) / scale, (tested - centre) / scale
    if config.is_smote:
        features, truths = with_more(features, truths, np.random.default_rng(seed))
    each = [
        shares_of(one, features, truths, tested, plan.target.n_groups) for one in _members(seed)
    ]
    vote = voted(each, is_hard=config.vote == "hard")
    return cases_of(data.examples("test"), vote, plan.target)


def _members(seed: int) -> tuple[Any, ...]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    forest = RandomForestClassifier(N_TREES, random_state=seed)
    return SVC(), forest, KNeighborsClassifier(N_NEIGHBOURS)


def shares_of(
    member: Any, features: Array, truths: NDArray[np.intp], tested: Array, n_classes: int
) -> Array:
    """Return a classifier's shares of classes, shape ``(n, n_classes)``; one of one class is sure.

    Distances from a support vector machine's borders become shares by softmax: they are ordered,
    and no calibrated probabilities.
    """
    shares, known = np.zeros((len(tested), n_classes)), np.unique(truths)
    if len(known) == 1:
        shares[:, known] = 1
        return shares
    if hasattr(member, "n_neighbors"):
        member.set_params(n_neighbors=min(member.n_neighbors, len(features)))
    member.fit(features, truths)
    if hasattr(member, "predict_proba"):
        shares[:, known] = member.predict_proba(tested)
    else:
        far = member.decision_function(tested)
        far = np.column_stack([np.zeros(len(far)), far]) if far.ndim == 1 else far
        shares[:, known] = softmax(far, axis=1)
    return shares


def voted(each: Sequence[Array], *, is_hard: bool) -> Array:
    """Return the vote of classifiers on each example, as shares of classes.

    Args:
        each: Shares of each classifier, shape ``(n, n_classes)``.
        is_hard: Count the classes that they call; a tie goes to the higher mean share. Else their
            mean share is the vote.
    """
    mean: Array = np.mean(each, axis=0)
    if not is_hard:
        return mean
    called = np.mean([np.eye(mean.shape[1])[one.argmax(1)] for one in each], axis=0)
    return np.asarray((called + _OF_TIES * mean) / (1 + _OF_TIES))


def with_more(
    features: Array, truths: NDArray[np.intp], random: np.random.Generator
) -> tuple[Array, NDArray[np.intp]]:
    """Return training examples with made ones of rare classes, until all are as many (SMOTE).

    Each made one lies between an example and one of its five nearest of the class. A class of one
    example gets none.
    """
    counts = Counter(truths.tolist())
    made, classes = [features], [truths]
    for kind, n in sorted(counts.items()):
        n_more = max(counts.values()) - n
        if n < 2 or not n_more:
            continue
        own = features[truths == kind]
        near = cdist(own, own).argsort(1, kind="stable")[:, 1 : N_NEIGHBOURS + 1]
        first = random.integers(n, size=n_more)
        second = near[first, random.integers(near.shape[1], size=n_more)]
        way = random.random((n_more, 1))
        made.append(own[first] + way * (own[second] - own[first]))
        classes.append(np.full(n_more, kind, dtype=np.intp))
    return np.concatenate(made), np.concatenate(classes)


def _features(network: nn.Module, data: SiteData, split: Split, plan: Plan) -> Array:
    """Return what reaches the network's last layer, shape ``(n, d)``."""
    features = []
    with (
        reproducible(plan.train.n_threads),
        torch.no_grad(),
        embedding_of(network, layout(network).head_layer) as embedding,
    ):
        for batch in data.eval_batches(split, batch_size=plan.train.batch_size):
            network(*batch.inputs)
            features.append(embedding.value.double().numpy())
    return np.concatenate(features)
