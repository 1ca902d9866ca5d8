"""What an arm trains and on whose data: the makings of every protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from fedmri.arm import Arm
from fedmri.file_names import file_name
from fedmri.plan import FilterConfig, Plan, TransportConfig
from fedmri.secagg.settings import SecAggConfig
from fedmri.simulation.settings import SimulationConfig
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.registry import STRATEGIES
from fedmri.training.budget import Budget, total

POOL = "pooled"

_Files: TypeAlias = "Mapping[str, tuple[Path, ...]]"


@dataclass(frozen=True)
class ArmRun:
    """One training of the comparison.

    Attributes:
        arm: Which arm of the comparison it is.
        plan: The experiment's plan, with the arm's seed and strategy.
        members: Sites whose data train; the pooled arms have one that holds the others' data.
        prepared: Files of prepared data by node; members and all that are tested.
        tested: Nodes whose test patients the final model is tested on.
        policy: What the sites' own policies would say, as their nodes are told it.
    """

    arm: Arm
    plan: Plan
    members: tuple[str, ...]
    prepared: Mapping[str, tuple[Path, ...]]
    tested: tuple[str, ...]
    policy: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name of the arm, for people, records and folders."""
        return self.arm.label

    @property
    def path(self) -> Path:
        """Folder of the arm under ``arms/``, ``sites/SITE/``, ``cases/`` and ``pictures/``."""
        return Path(file_name(self.label)) / f"seed-{self.plan.seed}"


@dataclass(frozen=True)
class ArmSites:
    """Whose data the arms of a study are made of.

    Attributes:
        sites: Prepared file of each site that takes part.
        external: Prepared file of each site that is only tested on.
        whole: Prepared file of each site with all its patients on the side of tests, for the arms
            that were trained without it.
        budgets: What each site takes in a round.
    """

    sites: Mapping[str, Path]
    external: Mapping[str, Path] = field(default_factory=dict)
    whole: Mapping[str, Path] = field(default_factory=dict)
    budgets: Mapping[str, Budget] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Sites that take part, in ascending order."""
        return tuple(sorted(self.sites))

    @property
    def files(self) -> _Files:
        """Prepared files of all sites."""
        return {name: (path,) for name, path in {**self.sites, **self.external}.items()}


def federated_runs(plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
    """Yield the federations of all sites: of the plan's strategy, or of each that is compared."""
    if "federated" in config.arms:
        for arm, one in by_strategy(plan, config):
            yield ArmRun(arm, one, sites.names, sites.files, tuple(sites.files))


def pooled_runs(plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
    """Yield the training on the data of all sites in one place."""
    if "pooled" in config.arms:
        files, names = sites.files, sites.names
        pool, arm = _with_pool(files, names), Arm("pooled")
        yield ArmRun(arm, _pooled(plan, sites, names), (POOL,), pool, tuple(files))


def local_runs(plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
    """Yield the training of each site alone."""
    if "local" in config.arms:
        for name in sites.names:
            arm = Arm("local", site=name)
            yield ArmRun(arm, _alone(plan), (name,), sites.files, tuple(sites.files))


def left_out_runs(
    left_out: str, plan: Plan, config: SimulationConfig, sites: ArmSites
) -> Iterator[ArmRun]:
    """Yield the arms that a site takes no part in: all its patients are new to them."""
    files = {**sites.files, left_out: (sites.whole[left_out],)}
    others = tuple(name for name in sites.names if name != left_out)
    if "federated" in config.arms:
        yield ArmRun(Arm("federated", left_out=left_out), plan, others, files, (left_out,))
    if "pooled" in config.arms:
        arm, pool = Arm("pooled", left_out=left_out), _with_pool(files, others)
        yield ArmRun(arm, _pooled(plan, sites, others), (POOL,), pool, (left_out,))


def by_strategy(plan: Plan, config: SimulationConfig) -> Iterator[tuple[Arm, Plan]]:
    """Yield the federated arms: the plan's strategy, or each of those that are compared."""
    if not config.strategies:
        yield Arm("federated"), plan
    for strategy in config.strategies:
        arm = Arm("federated", strategy=STRATEGIES.name_of(strategy))
        yield arm, replace(plan, strategy=strategy)


def _with_pool(files: _Files, names: tuple[str, ...]) -> _Files:
    """Return the files with a data holder that has all of the named sites' data."""
    return {**files, POOL: tuple(path for name in names for path in files[name])}


def _pooled(plan: Plan, sites: ArmSites, names: tuple[str, ...]) -> Plan:
    """Return the plan of the pool: in a round it takes the steps and examples of all its sites."""
    plan, budget = _alone(plan), total(sites.budgets.get(name, Budget(0, 0)) for name in names)
    if not budget.n_steps:
        return plan
    train, privacy = replace(plan.train, local_steps=budget.n_steps), plan.privacy
    if privacy.is_on:
        privacy = replace(privacy, batch_subjects=budget.n_seen / budget.n_steps)
    else:
        train = replace(train, local_examples=round(budget.n_seen))
    return replace(plan, train=train, privacy=privacy)


def _alone(plan: Plan) -> Plan:
    """Return the plan of one data holder: nothing to weigh, and no round interrupts its optimizer.

    Nothing travels either, so nothing is filtered, rounded or hidden on the way. Everything else is
    the same: network, optimizer, schedule, rounds, and a site's steps in each.
    """
    train = replace(plan.train, is_optimizer_kept=True)
    return replace(
        plan,
        strategy=FedAvg(),
        train=train,
        privacy=plan.privacy.alone(),
        stages=tuple(stage.alone() for stage in plan.stages),
        transport=TransportConfig(),
        secagg=SecAggConfig(),
        filters=FilterConfig(),
    )
