"""What an arm trains and on whose data: the makings of every protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from fedmri.arm import Arm
from fedmri.machine.file_names import file_name
from fedmri.plan import FilterConfig, Plan, TransportConfig
from fedmri.secagg.settings import SecAggConfig
from fedmri.simulation.divisions import Calibration, Divide, divided_site
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
        start: Arm of the same seed whose model this one starts from; None starts anew.
        slow: Rounds that members take for an answer; all others take one.
        replayed: Record of the rounds of another run, which this one takes the same updates in.
    """

    arm: Arm
    plan: Plan
    members: tuple[str, ...]
    prepared: Mapping[str, tuple[Path, ...]]
    tested: tuple[str, ...]
    policy: Mapping[str, str] = field(default_factory=dict)
    start: Arm | None = None
    slow: Mapping[str, int] = field(default_factory=dict)
    replayed: Path | None = None

    @property
    def label(self) -> str:
        """Name of the arm, for people, records and folders."""
        return self.arm.label

    @property
    def path(self) -> Path:
        """Folder of the arm under ``arms/``, ``sites/SITE/``, ``cases/`` and ``pictures/``."""
        return self.folder_of(self.arm)

    def folder_of(self, arm: Arm) -> Path:
        """Return the folder of an arm that is trained with the same seed."""
        return Path(file_name(arm.label)) / f"seed-{self.plan.seed}"


@dataclass(frozen=True)
class ArmSites:
    """Whose data the arms of a study are made of.

    Attributes:
        sites: Prepared file of each site that takes part.
        external: Prepared file of each site that is only tested on.
        whole: Prepared file of each site with all its patients on the side of tests, for the arms
            that were trained without it.
        budgets: What each site takes in a round.
        folder: Where prepared files lie, and those that a protocol divides anew.
    """

    sites: Mapping[str, Path]
    external: Mapping[str, Path] = field(default_factory=dict)
    whole: Mapping[str, Path] = field(default_factory=dict)
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def names(self) -> tuple[str, ...]:
        """Sites that take part, in ascending order."""
        return tuple(sorted(self.sites))

    @property
    def files(self) -> _Files:
        """Prepared files of all sites."""
        return {name: (path,) for name, path in {**self.sites, **self.external}.items()}

    def divided(self, plan: Plan, name: str, divide: Divide) -> ArmSites:
        """Return the sites with their patients on other sides; their files are written once.

        Args:
            plan: What is learned.
            name: Folder of the new files.
            divide: Gives the side of each patient of a site.
        """
        from fedmri.simulation.arms.site_budget import site_budget  # torch loads here

        place = self.folder / file_name(name)
        sites = {site: divided_site(path, place, divide) for site, path in self.sites.items()}
        budgets = {site: site_budget(plan, path) for site, path in sites.items()}
        return replace(self, sites=sites, budgets=budgets)

    def only(self, names: Sequence[str]) -> ArmSites:
        """Return some of the sites; the others are tested on and take no part."""
        left = {name: path for name, path in self.sites.items() if name not in names}
        sites = {name: self.sites[name] for name in names}
        return replace(self, sites=sites, external={**self.external, **left})


def federated_runs(plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
    """Yield the federations of all sites: of the plan's strategy, or of each that is compared."""
    if "federated" in config.arms:
        for arm, one in by_strategy(plan, config):
            named = replace(arm, handicap=handicap_of(one, sites.names))
            yield ArmRun(named, one, sites.names, sites.files, tuple(sites.files))


def pooled_runs(plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
    """Yield the training on the data of all sites in one place."""
    files, names = sites.files, sites.names
    pool, pooled = _with_pool(files, names), _pooled(plan, sites, names)
    if "pooled" in config.arms:
        yield ArmRun(Arm("pooled"), pooled, (POOL,), pool, tuple(files))
    if "balanced" in config.arms:
        even = replace(pooled, data=replace(plan.data, is_site_balanced=True))
        yield ArmRun(Arm("balanced"), even, (POOL,), pool, tuple(files))


def local_runs(plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
    """Yield the training of each site alone."""
    if "local" in config.arms:
        for name in sites.names:
            arm = Arm("local", site=name)
            yield ArmRun(arm, _alone(plan), (name,), sites.files, tuple(sites.files))


def personalised_runs(plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
    """Yield the federation's model trained on at each site, and tested there.

    Of several strategies it is the first one's.
    """
    if "personalised" not in config.arms or keeps_at_sites(plan):
        return
    start, tuned = next(by_strategy(plan, config))[0], _tuned(plan, config)
    for name in sites.names:
        arm = Arm("personalised", site=name)
        yield ArmRun(arm, tuned, (name,), {name: (sites.sites[name],)}, (name,), start=start)


def size_of(run: ArmRun, sites: ArmSites) -> float:
    """Return the steps of the optimizer that a training takes, for an estimate of its time."""
    plan, budgets = run.plan, sites.budgets
    n_steps = sum(budgets[name].n_steps for name in run.members if name in budgets)
    return float(plan.rounds.n_rounds * max(1, n_steps or plan.train.local_steps))


def keeps_at_sites(plan: Plan) -> bool:
    """Whether the strategy leaves a part of the model at each site: each has its own already."""
    from fedmri.assembly import assemble  # torch loads here

    return bool(assemble(plan).local)


def left_out_runs(
    left_out: str, plan: Plan, config: SimulationConfig, sites: ArmSites
) -> Iterator[ArmRun]:
    """Yield the arms that a site takes no part in: all its patients are new to them."""
    files = {**sites.files, left_out: (sites.whole[left_out],)}
    others = tuple(name for name in sites.names if name != left_out)
    alone = (left_out,)
    if "federated" in config.arms:
        is_adapted = keeps_at_sites(plan)
        part = "adabn" if is_adapted else ""
        handicap = handicap_of(plan, others)
        federated = Arm("federated", left_out=left_out, part=part, handicap=handicap)
        # also at the others, whose loss without the site is what the site gave
        yield ArmRun(federated, plan, others, files, tuple(files))
        if "personalised" in config.arms and not is_adapted:
            n_few = config.n_calibration
            part = f"fine-tune {n_few} patients"
            place = sites.folder / file_name(part)
            few = divided_site(sites.sites[left_out], place, Calibration(n_few))
            arm, tuned = Arm("personalised", left_out=left_out, part=part), _tuned(plan, config)
            yield ArmRun(arm, tuned, alone, {left_out: (few,)}, alone, start=federated)
    if "pooled" in config.arms:
        arm, pool = Arm("pooled", left_out=left_out), _with_pool(files, others)
        yield ArmRun(arm, _pooled(plan, sites, others), (POOL,), pool, alone)


def by_strategy(plan: Plan, config: SimulationConfig) -> Iterator[tuple[Arm, Plan]]:
    """Yield the federated arms: the plan's strategy, or each of those that are compared."""
    if not config.strategies:
        yield Arm("federated"), plan
    for strategy in config.strategies:
        arm = Arm("federated", strategy=STRATEGIES.name_of(strategy))
        yield arm, replace(plan, strategy=strategy)


def handicap_of(plan: Plan, sites: Sequence[str]) -> str:
    """Return what a federation lacks by design beside the pooled arm, in words."""
    said = []
    if not plan.train.is_optimizer_kept and plan.train.optimizer != "sgd":
        said.append("its optimizer forgets its moments after each round")
    n_turns = len(plan.strategy.turns(tuple(sites), 1))
    if 0 < n_turns < len(sites):
        said.append(f"sites step side by side, so 1 of {len(sites)} steps follows another")
    return "; ".join(said)


def marked(runs: Iterable[ArmRun], **fields: Any) -> Iterator[ArmRun]:
    """Yield runs whose arms say what a protocol made of them."""
    for run in runs:
        start = run.start and replace(run.start, **fields)
        yield replace(run, arm=replace(run.arm, **fields), start=start)


def _tuned(plan: Plan, config: SimulationConfig) -> Plan:
    """Return the plan of a site that goes on from a model of others for a few rounds."""
    alone = _alone(plan)
    return replace(alone, rounds=replace(alone.rounds, n_rounds=config.n_tuning_rounds))


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
    the same: network, optimizer, schedule, rounds, and a site's steps in each. Where parts thaw,
    an optimizer begins anew each round here too: it keeps to its parameters.
    """
    train = replace(plan.train, is_optimizer_kept=not plan.train.is_thawing)
    return replace(
        plan,
        strategy=FedAvg(),
        train=train,
        privacy=plan.privacy.alone(),
        stages=tuple(stage.alone() for stage in plan.stages),
        transport=TransportConfig(),
        secagg=SecAggConfig(),
        filters=FilterConfig(),
        rounds=replace(plan.rounds, close_at=1.0, late="dropped"),
    )
