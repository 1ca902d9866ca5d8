"""A plan on the site's own data without any server: does it run here, how long, and what leaves."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from fedmri.assembly import assemble
from fedmri.clients.consent.leaving import key_bytes, update_bytes
from fedmri.clients.consent.withdrawn import Withdrawn
from fedmri.clients.process.home import ClientHome
from fedmri.clients.training.own_data import MANIFEST, prepare_own
from fedmri.clients.training.protection.private import Guard
from fedmri.clients.training.site import Site
from fedmri.clients.views.costs import plan_epsilon
from fedmri.data.batches.site_data import Split
from fedmri.errors import HarmonizeError
from fedmri.machine.files import write_whole
from fedmri.plan import Plan, to_json
from fedmri.privacy.dp_sgd import round_steps
from fedmri.secagg.settings import SecAggConfig
from fedmri.stages.stage import When
from fedmri.training.computing.device import pick_device
from fedmri.training.local import n_round_steps
from fedmri.wire import START, EvaluateOrder, TrainOrder

SPLITS: tuple[Split, ...] = ("train", "val", "test")
N_TAKEN = 2
"""Rounds of one step that are taken: the first warms the device up, the last is measured."""


@dataclass(frozen=True)
class Rehearsed:
    """What a rehearsal measured.

    Attributes:
        subjects: Patients that train, validate and are tested.
        device: What was trained on.
        prepare_seconds: Reading, checking and preparing the scans; what the cache has is quick.
        step_seconds: One step of training, warm.
        n_steps: Steps of a round here.
        score_seconds: Scoring a model once; 0 where nobody validates.
        n_rounds: Rounds of the plan.
        n_scorings: Times that a model is scored.
        peak_bytes: Most memory of this process so far, of preparation too.
        peak_device_bytes: Most memory of the GPU; 0 on a CPU.
        bytes_a_round: Bytes that an update has as it leaves, with keys where sums are secure.
        epsilon: Privacy loss of one patient after all rounds; None where it has no bound.
        delta: That epsilon goes with.
        left_aside: Stages that the step was taken without: they are fitted with other sites.
    """

    subjects: Mapping[Split, int]
    device: str
    prepare_seconds: float
    step_seconds: float
    n_steps: int
    score_seconds: float
    n_rounds: int
    n_scorings: int
    peak_bytes: int
    peak_device_bytes: int
    bytes_a_round: int
    epsilon: float | None
    delta: float
    left_aside: tuple[str, ...]

    @property
    def hours(self) -> float:
        """Estimated hours of this site's work: steps and scorings, without waiting for others."""
        training = self.n_rounds * self.n_steps * self.step_seconds
        scoring = self.n_scorings * self.score_seconds
        return (self.prepare_seconds + training + scoring) / 3600


def rehearse(home: ClientHome, plan: Plan, n_sites: int = 0) -> Rehearsed:
    """Prepare the site's scans, take a step and score once; nothing leaves and nothing is kept.

    Prepared scans stay in the site's cache, and the manifest tells who is left out and why.

    Args:
        home: The site.
        plan: What would be trained.
        n_sites: Sites of a secure sum; 0 where they are not known.

    Raises:
        HarmonizeError: The plan is for tables, and trains nothing (H25).
        DataError: The data cannot be trained on.
    """
    _refuse_tables(plan)
    own = replace(plan.train, device=home.config.device or plan.train.device)
    plan = replace(plan, train=own)
    with TemporaryDirectory(dir=home.folder, prefix=".rehearsal-") as folder:
        began = time.perf_counter()
        prepared = prepare_own(
            home.config, plan, home.site, home.cache, Path(folder), Withdrawn.of(home)
        )
        write_whole(home.folder / MANIFEST, (Path(folder) / MANIFEST).read_bytes())
        preparing = time.perf_counter() - began
        return _measured(home, plan, prepared, Path(folder), preparing, n_sites)


def _measured(  # noqa: PLR0913  # what is measured, on what, and where
    home: ClientHome, plan: Plan, prepared: Path, folder: Path, preparing: float, n_sites: int
) -> Rehearsed:
    step = _one_step(plan)
    guard = Guard(bytes(32), folder / "privacy.jsonl")
    site = Site(home.site, to_json(step), [prepared], folder / "run", guard)
    device = pick_device(plan.train.device)
    made = assemble(plan)
    entries = made.entries
    extra = plan.strategy.broadcast(plan.strategy.start(entries, made.layout))
    if plan.start.sha256:  # the file is the server's; a step takes as long from the seed
        extra = {**extra, START: {name: entries[name] for name in made.untold}}
    orders = [
        TrainOrder(number, made.shared(entries, number), extra) for number in range(1, N_TAKEN + 1)
    ]
    update = [site.train(order) for order in orders][-1]
    data = site.view.data
    subjects = {split: len({e.subject for e in data.examples(split)}) for split in SPLITS}
    epsilon, delta = plan_epsilon(plan, subjects["train"], home.config.policy.max_epsilon)
    keys = key_bytes(n_sites) if plan.secagg.is_on else 0
    return Rehearsed(
        subjects=subjects,
        device=str(device),
        prepare_seconds=preparing,
        step_seconds=update.metrics["train_seconds"] / max(1.0, update.metrics["n_steps"]),
        n_steps=_n_steps(plan, len(data.examples("train")), subjects["train"]),
        score_seconds=_scored(
            site, EvaluateOrder(N_TAKEN, "val", orders[-1].weights), subjects["val"]
        ),
        n_rounds=plan.rounds.n_rounds,
        n_scorings=plan.rounds.n_scorings,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        peak_device_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
        bytes_a_round=update_bytes(plan, made.shared(entries, made.last), made.extra_forms) + keys,
        epsilon=epsilon,
        delta=delta,
        left_aside=tuple(type(one).__name__ for one in plan.stages if one.when is not When.NEVER),
    )


def _one_step(plan: Plan) -> Plan:
    """Return the plan with rounds of one step, without what needs other sites."""
    train = replace(plan.train, local_steps=1, local_examples=0)
    stages = tuple(stage for stage in plan.stages if stage.when is When.NEVER)
    return replace(plan, train=train, stages=stages, secagg=SecAggConfig())


def _n_steps(plan: Plan, n_examples: int, n_subjects: int) -> int:
    if not plan.privacy.is_on:
        return n_round_steps(plan.train, n_examples)
    train = plan.train
    return round_steps(
        plan.privacy,
        max(1, n_subjects),
        local_epochs=train.local_epochs,
        local_steps=train.local_steps,
    ).n_steps


def _scored(site: Site, order: EvaluateOrder, n_subjects: int) -> float:
    if not n_subjects:
        return 0.0
    began = time.perf_counter()
    site.evaluate(order)
    return time.perf_counter() - began


def _refuse_tables(plan: Plan) -> None:
    if plan.is_for_tables:
        what, want, fix = "rehearsal", "a plan that trains a network", "use `fedmri harmonize`"
        raise HarmonizeError("H25", what, found="a plan for tables", want=want, fix=fix)
