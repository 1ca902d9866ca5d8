"""Scores as an oracle: whoever has crafted weights scored learns no patient."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Message

from fedmri.agreement.signed_plan import SignedPlan
from fedmri.clients.consent.approval import approve, keep_seen
from fedmri.clients.egress.border import declared_scores, rounded
from fedmri.clients.egress.ledger import entries
from fedmri.clients.egress.scorings import MOST_MODELS
from fedmri.clients.process.home import ClientHome
from fedmri.clients.training.network import network_of
from fedmri.config import load
from fedmri.models.weights import weights
from fedmri.plan import Plan, to_json
from fedmri.round import Weights
from fedmri.stages.embeddings.coral import Coral
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Case, Task
from fedmri.wire import (
    SCORES,
    UPDATE,
    EvaluateOrder,
    Scores,
    SumsOrder,
    TrainOrder,
    as_plain_record,
    content_of,
    read_answer,
    unbundle,
)
from tests.clients.conftest import OWN, MakeSite, Sign
from tests.hostile.conftest import Order, code_of, with_policy

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # flwr's


def crafted(plan: Plan, number: int) -> Weights:
    """Return weights that the server made up: no round led to them."""
    model = weights(network_of(to_json(plan)).module)
    rng = torch.Generator().manual_seed(number)
    return {
        name: torch.randn(value.shape, generator=rng).to(value.dtype) * 10 if number else value
        for name, value in model.items()
    }


def read(reply: Message) -> Scores:
    """Return the scores of an answer."""
    return read_answer(SCORES, OWN, unbundle(reply.content))


@pytest.fixture
def signed(plan: Plan, sign: Sign, home: ClientHome) -> SignedPlan:
    """Return the plan, signed, and approved once by a person at the site."""
    with_policy(home)
    signed = sign(plan)
    keep_seen(home, signed)
    approve(home, signed, "command")
    return signed


def test_crafted_weights_get_one_answer_a_round(
    order: Order, signed: SignedPlan, home: ClientHome
) -> None:
    """Forty networks for one round and two splits: two answers, whatever the splits are called."""
    answered = []
    for number in range(10):
        for split in ("val", "test", "VAL", "anything"):
            content = content_of(EvaluateOrder(1, "val", crafted(signed.plan, number)))
            fields = json.loads(str(content.config_records["order"]["json"]))
            content["order"] = as_plain_record({**fields, "split": split})
            answered.append(code_of(order(signed, content, "evaluate")))
    assert answered[:4] == ["ok", "ok", "P21", "P21"]  # no split is called "VAL" or "anything"
    assert answered[4:] == ["P13", "P13", "P21", "P21"] * 9
    told = [entry["sha256"] for entry in entries(home.ledger) if entry["kind"] == "scores"]
    assert len(told) == len(set(told)) == 2


NETWORKS = {
    "U-Net, masks": (
        *("model=unet", "target.kind=segmentation", "target.name=mask"),
        "target.classes=[lesion]",
    ),
    "attention U-Net, masks": (
        *("model=attention_unet", "target.kind=segmentation", "target.name=mask"),
        "target.classes=[lesion]",
    ),
    "CNN, age": (
        *("target.kind=regression", "target.name=age"),
        "target.loss=auto",
    ),
    "ResNet, classes": ("model=resnet18",),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_network_and_no_metric_is_an_oracle(
    name: str, tiny: Callable[..., list[str]], order: Order, sign: Sign, home: ClientHome
) -> None:
    """Networks and tasks of other kinds: a round is scored once, its metrics have few digits."""
    with_policy(home)
    signed = sign(load(tiny(*NETWORKS[name])).plan)
    keep_seen(home, signed)
    approve(home, signed, "command")
    asked = [content_of(EvaluateOrder(1, "val", crafted(signed.plan, number))) for number in (1, 2)]
    first, other = (order(signed, content, "evaluate") for content in asked)
    assert (code_of(first), code_of(other)) == ("ok", "P13")
    allowed = declared_scores(signed.plan)
    for metric, value in read(first).metrics.items():
        if metric in allowed.ranges:
            low, high = allowed.ranges[metric]
            assert low <= value <= high
            assert value == rounded(value, 3, (low, high))


def test_an_answer_that_was_lost_is_given_again(order: Order, signed: SignedPlan) -> None:
    """A server that resumes asks again, and gets the very answer, seconds and all."""
    content = content_of(EvaluateOrder(1, "test", crafted(signed.plan, 0)))
    first, again = (read(order(signed, content, "evaluate")) for _ in range(2))
    assert first == again


def test_extras_count_as_the_model(order: Order, signed: SignedPlan) -> None:
    """What images are harmonized by, sent along, is another model as well."""
    model = crafted(signed.plan, 0)
    plain = content_of(EvaluateOrder(1, "val", model))
    with_extra = EvaluateOrder(1, "val", model, extra={"odd": {"x": torch.ones(3)}})
    assert code_of(order(signed, plain, "evaluate")) == "ok"
    assert code_of(order(signed, content_of(with_extra), "evaluate")) == "P13"


def test_another_name_for_the_run_gets_nothing(order: Order, signed: SignedPlan) -> None:
    """The name of a run is signed by nobody: it opens no second book."""
    content = content_of(EvaluateOrder(1, "val", crafted(signed.plan, 0)))
    assert code_of(order(signed, content, "evaluate", run="one")) == "ok"
    for run in ("two", "", "one ", "ONE"):
        assert code_of(order(signed, content, "evaluate", run=run)) == "P15"


def test_a_site_gives_so_many_scorings(
    order: Order, plan: Plan, sign: Sign, home: ClientHome
) -> None:
    """The cap lies on the disk: it holds over restarts, for all rounds and splits together."""
    with_policy(home, "max_scorings: 3", "is_approval_automatic: true")
    signed = sign(replace(plan, rounds=replace(plan.rounds, n_rounds=9, evaluate_every=9)))
    codes = [
        code_of(order(signed, content_of(EvaluateOrder(n, split, crafted(plan, n))), "evaluate"))
        for n in range(4)
        for split in ("val", "test")
    ]
    assert codes == ["ok"] * 3 + ["P14"] * 5


def test_under_a_cap_on_epsilon_no_score_leaves(
    order: Order, plan: Plan, sign: Sign, home: ClientHome
) -> None:
    """Scores have no noise: beside a cap they would be free of charge."""
    with_policy(home, "max_epsilon: 10", "is_approval_automatic: true")
    private = replace(plan.privacy, noise_multiplier=2.0, batch_subjects=2)
    signed = sign(replace(plan, privacy=private))
    for split in ("val", "test"):
        ask = EvaluateOrder(1, split, crafted(plan, 0))
        assert code_of(order(signed, content_of(ask), "evaluate")) == "P16"


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_a_network_that_breaks_is_told_from_none(
    order: Order, signed: SignedPlan, value: float
) -> None:
    """Whether a patient makes a network overflow would be a bit: it is a bad score, and no code."""
    model = {n: torch.full_like(v, value) for n, v in crafted(signed.plan, 1).items()}
    reply = order(signed, content_of(EvaluateOrder(1, "val", model)), "evaluate")
    assert code_of(reply) == "ok"
    assert read(reply).metrics["loss"] <= 20


def test_numbers_that_leave_are_short(order: Order, signed: SignedPlan) -> None:
    """Three digits each, on a grid over the metric's range; counts are counts."""
    ask = EvaluateOrder(1, "test", crafted(signed.plan, 3))
    metrics = read(order(signed, content_of(ask), "evaluate")).metrics
    assert {"loss", "auc", "brier"} <= metrics.keys()
    for name, value in metrics.items():
        assert math.isnan(value) or float(f"{value:.3g}") == value, name


def test_no_training_loss_leaves_beside_a_secure_sum_or_noise(make_site: MakeSite) -> None:
    """In clear it is a mean over training patients under weights that the server chose."""
    private = make_site("privacy.noise_multiplier=1", "privacy.batch_subjects=2")
    model = {k: v.clone() for k, v in weights(network_of(to_json(private.plan)).module).items()}
    assert math.isnan(private.train(TrainOrder(1, model)).metrics["loss"])


def test_a_training_loss_in_clear_is_short(order: Order, signed: SignedPlan) -> None:
    """Its many digits would carry what the rest of the update does not."""
    content = content_of(TrainOrder(1, crafted(signed.plan, 0)))
    update = read_answer(UPDATE, OWN, unbundle(order(signed, content, "train").content))
    loss = update.metrics["loss"]
    assert float(f"{loss:.3g}") == loss


TASKS: dict[str, Task] = {
    "regression": Regression("age"),
    "classification": Classification("kind", ("a", "b")),
    "segmentation": Segmentation("mask", ("lesion",)),
}
N, DIGITS = 5, 3


def cases(kind: str, secret: float) -> list[Case]:
    """Return five patients; what is predicted for the last is what the attacker reads of them."""
    if kind == "regression":
        values = [(50.0 + i, 50.0 + i) for i in range(N - 1)] + [(50.0, 50.0 + secret)]
        return [Case("s", str(i), 1, t, (p,), {}) for i, (t, p) in enumerate(values)]
    if kind == "classification":
        share = 1 / (1 + math.exp(-min(max(secret, -700), 700)))
        rows = [(float(i % 2), 0.01 if i % 2 else 0.99) for i in range(N - 1)] + [(0.0, share)]
        return [
            Case("s", str(i), 1, t, (p, 1 - p), {"predicted": float(p < 0.5), "is_correct": 1.0})
            for i, (t, p) in enumerate(rows)
        ]
    dice = abs(math.sin(secret)) if math.isfinite(secret) else 0.5
    scores = [{"dice": 0.0, "jaccard": 0.0, "hd95_mm": 0.0}] * (N - 1)
    last = {"dice": dice, "jaccard": dice / (2 - dice), "hd95_mm": abs(secret)}
    return [Case("s", str(i), 1, math.nan, (), one) for i, one in enumerate([*scores, last])]


@pytest.mark.parametrize("kind", TASKS)
def test_one_patient_says_no_more_than_the_stated_bits(
    kind: str, hide: Callable[[Task, list[Case]], dict[str, float]]
) -> None:
    """The best that crafted weights can do: one patient free, the others still, a fine sweep.

    The bound of docs/privacy.md: the metrics that are means have at most 10**(digits + 1) / n + 2
    values, any other at most 10**(digits + 1) + 1.
    """
    task = TASKS[kind]
    rng = np.random.default_rng(0)
    secrets = np.concatenate([
        rng.uniform(-1, 1, 400) * 10.0 ** rng.integers(-6, 300, 400),
        np.linspace(-500, 500, 400),
        [math.nan, math.inf, -math.inf],
    ])  # fmt: skip
    found: dict[str, set[float]] = {}
    for secret in secrets:
        for name, value in hide(task, cases(kind, float(secret))).items():
            found.setdefault(name, set()).add(value)
    means = {"mae", "accuracy", "brier", "dice", "jaccard", "hd95_mm"}
    for name, values in found.items():
        most = 10 ** (DIGITS + 1) / (N if name in means else 1) + 2
        assert len(values) <= most, (name, len(values))


@pytest.fixture
def hide() -> Callable[[Task, list[Case]], dict[str, float]]:
    """Return what a site does to its patients' results before they leave."""

    def hidden(task: Task, own: list[Case]) -> dict[str, float]:
        metrics = task.metrics(task.clipped(own))
        return {n: rounded(v, DIGITS, task.ranges.get(n)) for n, v in metrics.items()}

    return hidden


@pytest.mark.parametrize("kind", TASKS)
def test_every_metric_that_may_leave_has_a_range(kind: str) -> None:
    """Counts are whole, and of seconds no patient decides; all others are within a range."""
    target = TASKS[kind]
    allowed = declared_scores(Plan(target))
    free = {name for name in allowed.metrics if name not in allowed.ranges}
    assert {name for name in free if not name.startswith("n_")} == {"seconds", "is_adapted"}


def test_codes_that_tell_of_the_data_are_counted(
    order: Order, plan: Plan, sign: Sign, home: ClientHome
) -> None:
    """Weights under which a loss is finite or not, by what the data are, ask a bit each."""
    with_policy(home, "max_scorings: 4")
    signed = sign(plan)
    keep_seen(home, signed)
    approve(home, signed, "command")

    def asked(number: int) -> str:
        model = {n: torch.full_like(v, torch.inf) for n, v in crafted(plan, 0).items()}
        name = next(iter(model))
        model[name].view(-1)[0] = float(number)
        return code_of(order(signed, content_of(TrainOrder(1, model)), "train"))

    assert [asked(number) for number in range(5)] == ["R20"] * 4 + ["P14"]
    assert asked(3) == "R20"  # the same order: the same answer, which tells nothing more


def test_beside_noise_no_step_is_said_to_be_left_out(make_site: MakeSite) -> None:
    """A count of losses that were not finite is of the data, and has no noise on it."""
    site = make_site(
        "privacy.noise_multiplier=1", "privacy.batch_subjects=2", "train.local_steps=2"
    )
    update = site.train(TrainOrder(1, crafted(site.plan, 0)))
    assert "n_skipped" not in update.metrics
    assert "n_skipped" in make_site().train(TrainOrder(1, crafted(site.plan, 0))).metrics


def test_few_models_are_trained_in_a_round(order: Order, signed: SignedPlan) -> None:
    """Updates of a thousand crafted networks would be a thousand gradients of the same patients."""
    asked = [content_of(TrainOrder(1, crafted(signed.plan, number))) for number in range(8)]
    codes = [code_of(order(signed, content, "train")) for content in asked]
    assert codes == ["ok"] * MOST_MODELS + ["P13"] * 3
    assert code_of(order(signed, asked[1], "train")) == "ok"  # a lost answer is given again
    later = content_of(TrainOrder(2, crafted(signed.plan, 7)))
    assert code_of(order(signed, later, "train")) == "ok"


def test_embeddings_are_summed_for_few_models_a_round(
    order: Order, plan: Plan, sign: Sign, home: ClientHome
) -> None:
    """Crafted networks, one after another, would map patients; a lost round has another model."""
    with_policy(home)
    signed = sign(replace(plan, stages=(Coral(strength=0.1),)))
    keep_seen(home, signed)
    approve(home, signed, "command")
    asked = [content_of(SumsOrder(0, {}, crafted(plan, number), 1)) for number in range(8)]
    codes = [code_of(order(signed, content, "query")) for content in asked]
    assert codes == ["ok"] * MOST_MODELS + ["P13"] * 3
    assert code_of(order(signed, asked[1], "query")) == "ok"
    later = content_of(SumsOrder(0, {}, crafted(plan, 7), 2))
    assert code_of(order(signed, later, "query")) == "ok"
