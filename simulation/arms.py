"""The arms of a comparison: each is a run of the same server and clients over other members."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from flwr.app import Context, RecordDict

from fedmri.clients.app import app as client_app
from fedmri.clients.secure import simulated_key
from fedmri.data.prepared import read_site
from fedmri.errors import ConfigError, DataError, FedmriError
from fedmri.file_names import file_name
from fedmri.plan import FilterConfig, Plan, TransportConfig, to_json
from fedmri.secagg.masks import ssh_text
from fedmri.secagg.secure_sum import Roll
from fedmri.secagg.settings import SecAggConfig
from fedmri.server.app import create_app
from fedmri.server.records import Observer
from fedmri.simulation.flower import RUN_ID, SERVER_NODE, Node, SimulatedGrid
from fedmri.simulation.in_process import InProcessGrid
from fedmri.simulation.pool import Engine, PooledGrid
from fedmri.simulation.settings import SimulationConfig
from fedmri.strategies.settings import StrategyConfig
from fedmri.trained.names import MODEL
from fedmri.trained.run_folder import put_ranges
from fedmri.training.budget import Budget, total

log = logging.getLogger("fedmri.simulation")

POOL = "pooled"

_Files: TypeAlias = "Mapping[str, tuple[Path, ...]]"


@dataclass(frozen=True)
class ArmRun:
    """One training of the comparison.

    Attributes:
        label: ``federated``, ``federated:STRATEGY``, ``pooled``, ``local:SITE``, ``loso:SITE`` or
            ``loso-pooled:SITE``.
        plan: The experiment's plan, with the arm's seed and strategy.
        members: Sites whose data train; the pooled arms have one that holds the others' data.
        prepared: Files of prepared data by node; members and all that are tested.
        tested: Nodes whose test patients the final model is tested on.
        policy: What the sites' own policies would say, as their nodes are told it.
    """

    label: str
    plan: Plan
    members: tuple[str, ...]
    prepared: Mapping[str, tuple[Path, ...]]
    tested: tuple[str, ...]
    policy: Mapping[str, str] = field(default_factory=dict)

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


def arm_runs(plan: Plan, config: SimulationConfig, sites: ArmSites) -> tuple[ArmRun, ...]:
    """Return all trainings of a comparison, the federated ones first."""
    seeds = range(plan.seed, plan.seed + config.n_seeds)
    runs = [run for seed in seeds for run in _of_seed(replace(plan, seed=seed), config, sites)]
    policy = {"max-leakage": f"{config.max_leakage}", "leakage-every": f"{config.leakage_every}"}
    # a data holder on its own sends nothing
    runs = [replace(run, policy=policy) if len(run.members) > 1 else run for run in runs]
    return tuple(sorted(runs, key=lambda run: len(run.members) == 1))


def _of_seed(plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
    yield from _with_all(plan, config, sites)
    if config.protocol == "loso":
        for left_out in sites.names:
            yield from _without(left_out, plan, config, sites)


def _with_all(plan: Plan, config: SimulationConfig, sites: ArmSites) -> Iterator[ArmRun]:
    files, names = sites.files, sites.names
    tested = tuple(files)
    if "federated" in config.arms:
        for label, one in by_strategy(plan, config):
            yield ArmRun(label, one, names, files, tested)
    if "pooled" in config.arms:
        yield ArmRun(POOL, _pooled(plan, sites, names), (POOL,), _with_pool(files, names), tested)
    if "local" in config.arms:
        for name in names:
            yield ArmRun(f"local:{name}", _alone(plan), (name,), files, tested)


def by_strategy(plan: Plan, config: SimulationConfig) -> Iterator[tuple[str, Plan]]:
    """Yield the federated arms: the plan's strategy, or each of those that are compared."""
    if not config.strategies:
        yield "federated", plan
    for strategy in config.strategies:
        yield f"federated:{strategy.name}", replace(plan, strategy=strategy)


def _without(
    left_out: str, plan: Plan, config: SimulationConfig, sites: ArmSites
) -> Iterator[ArmRun]:
    """Yield the arms that a site takes no part in: all its patients are new to them."""
    files = {**sites.files, left_out: (sites.whole[left_out],)}
    others = tuple(name for name in sites.names if name != left_out)
    if "federated" in config.arms:
        yield ArmRun(f"loso:{left_out}", plan, others, files, (left_out,))
    if "pooled" in config.arms:
        label, pool = f"loso-pooled:{left_out}", _with_pool(files, others)
        yield ArmRun(label, _pooled(plan, sites, others), (POOL,), pool, (left_out,))


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
        strategy=StrategyConfig(),
        train=train,
        privacy=plan.privacy.alone(),
        harmonize=plan.harmonize.alone(),
        transport=TransportConfig(),
        secagg=SecAggConfig(),
        filters=FilterConfig(),
    )


def refuse_known(runs: Sequence[ArmRun]) -> None:
    """Refuse to test an arm on patients that it trained or was chosen on.

    A damaged file of a site is passed over here: the site says so itself when it trains.

    Raises:
        ConfigError: A patient of the test is known to the arm (C15).
    """
    sides: dict[Path, tuple[set[str], set[str]]] = {}
    for run in runs:
        for path in (path for paths in run.prepared.values() for path in paths):
            sides.setdefault(path, _sides(path))
        known = {name for m in run.members for path in run.prepared[m] for name in sides[path][0]}
        for site in run.tested:
            asked = {name for path in run.prepared[site] for name in sides[path][1]}
            if both := sorted(known & asked):
                found = f"{len(both)} patients of {site} on both sides, such as {both[0]}"
                fix = "prepare the data again in a new run folder"
                raise ConfigError(
                    "C15", f"arm {run.label}", found=found, want="tests of new patients", fix=fix
                )


def _sides(path: Path) -> tuple[set[str], set[str]]:
    """Return the patients of a prepared site that are learned from, and those that are tested."""
    try:
        scans = read_site(path).scans
    except DataError:
        return set(), set()
    known = {scan.subject for scan in scans if scan.split != "test"}
    return known, {scan.subject for scan in scans if scan.split == "test"}


def can_train(run: ArmRun, n_train: Mapping[str, int]) -> bool:
    """Tell whether any member of a run has a patient to train on.

    A hospital of one or two patients may have none after the split: it takes part in tests and has
    no model of its own.
    """
    return any(n_train.get(member, 1) for member in run.members)


def run_arms(
    runs: Sequence[ArmRun],
    folder: Path,
    config: SimulationConfig,
    engine: Engine | None,
    observe: Observer,
) -> dict[str, str]:
    """Run all arms; return the error by label of those that failed.

    A federation uses all workers, one after another; single data holders share the workers.
    """
    federations = [run for run in runs if len(run.members) > 1]
    singles = [run for run in runs if len(run.members) == 1]
    failed: dict[str, str] = {}

    def attempt(run: ArmRun) -> None:
        try:
            run_arm(run, folder, config.n_pictures, engine, observe)
        except FedmriError as error:
            log.error("arm %s failed: %s", run.label, error)
            failed[run.label] = str(error)

    for run in federations:
        attempt(run)
    if engine is None:
        for run in singles:
            attempt(run)
    else:
        _side_by_side(attempt, singles, engine.n_workers)
    return failed


def _side_by_side(work: Callable[[ArmRun], None], runs: Sequence[ArmRun], n_threads: int) -> None:
    # The pooled arm trains as long as all others together: it must not start last.
    order = sorted(runs, key=lambda run: run.members != (POOL,))
    threads = ThreadPoolExecutor(n_threads)
    try:
        for future in [threads.submit(work, run) for run in order]:
            future.result()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def run_arm(
    run: ArmRun, folder: Path, n_pictures: int, engine: Engine | None, observe: Observer
) -> None:
    """Run the server's and the clients' apps of one arm, or what is left of it."""
    server_folder = folder / "arms" / run.path
    if not (server_folder / MODEL).exists():
        _train(run, folder, n_pictures, engine, observe)
    put_ranges(server_folder / MODEL, [path for m in run.members for path in run.prepared[m]])


def _train(
    run: ArmRun, folder: Path, n_pictures: int, engine: Engine | None, observe: Observer
) -> None:
    server_folder = folder / "arms" / run.path
    server_folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, str | int] = {
        "plan": to_json(run.plan),
        "arm": run.label,
        "members": json.dumps(run.members),
        "tested": json.dumps(run.tested),
        "folder": str(server_folder),
        "n-pictures": n_pictures,
    }
    if run.plan.secagg.is_on:
        config["roll"] = simulated_roll(run.label, run.plan, run.members).to_json()
    nodes = [_node(site, run, folder) for site in run.prepared]
    grid: SimulatedGrid
    if engine is None:
        grid = InProcessGrid(client_app, nodes, config)
    else:
        grid = PooledGrid(engine, nodes, config)
    context = Context(RUN_ID, SERVER_NODE, {}, RecordDict(), dict(config))
    create_app(observe)(grid=grid, context=context)


def simulated_roll(label: str, plan: Plan, members: Sequence[str]) -> Roll:
    """Return who takes part in the secure sums of an arm, with keys that protect nothing."""
    keys = {site: ssh_text(simulated_key(site).public_key()) for site in members}
    return Roll(f"{label} {plan.fingerprint}", keys, plan.secagg.threshold)


def _node(site: str, run: ArmRun, folder: Path) -> Node:
    prepared = json.dumps([str(path) for path in run.prepared[site]])
    own = folder / "sites" / file_name(site) / run.path
    return Node(site, {"site": site, "prepared": prepared, "folder": str(own), **run.policy})
