"""The arms of a comparison: each is a run of the same server and clients over other members."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from flwr.app import Context, RecordDict

from fedmri.clients.app import app as client_app
from fedmri.clients.secure import simulated_key
from fedmri.errors import FedmriError
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

log = logging.getLogger("fedmri.simulation")

POOL = "pooled"

_Files = Mapping[str, tuple[Path, ...]]


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


def arm_runs(
    plan: Plan, config: SimulationConfig, sites: Mapping[str, Path], external: Mapping[str, Path]
) -> tuple[ArmRun, ...]:
    """Return all trainings of a comparison, the federated ones first."""
    seeds = range(plan.seed, plan.seed + config.n_seeds)
    runs = [
        run for seed in seeds for run in _of_seed(replace(plan, seed=seed), config, sites, external)
    ]
    policy = {"max-leakage": f"{config.max_leakage}", "leakage-every": f"{config.leakage_every}"}
    # a data holder on its own sends nothing
    runs = [replace(run, policy=policy) if len(run.members) > 1 else run for run in runs]
    return tuple(sorted(runs, key=lambda run: len(run.members) == 1))


def _of_seed(
    plan: Plan, config: SimulationConfig, sites: Mapping[str, Path], external: Mapping[str, Path]
) -> Iterator[ArmRun]:
    files = {name: (path,) for name, path in {**sites, **external}.items()}
    yield from _with_all(plan, config, files, tuple(sorted(sites)))
    if config.protocol == "loso":
        for left_out in sorted(sites):
            yield from _without(left_out, plan, config, files, tuple(sorted(sites)))


def _with_all(
    plan: Plan, config: SimulationConfig, files: _Files, names: tuple[str, ...]
) -> Iterator[ArmRun]:
    tested = tuple(files)
    if "federated" in config.arms:
        for label, one in by_strategy(plan, config):
            yield ArmRun(label, one, names, files, tested)
    if "pooled" in config.arms:
        yield ArmRun(POOL, _alone(plan), (POOL,), _with_pool(files, names), tested)
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
    left_out: str, plan: Plan, config: SimulationConfig, files: _Files, names: tuple[str, ...]
) -> Iterator[ArmRun]:
    others = tuple(name for name in names if name != left_out)
    if "federated" in config.arms:
        yield ArmRun(f"loso:{left_out}", plan, others, files, (left_out,))
    if "pooled" in config.arms:
        pool = _with_pool(files, others)
        yield ArmRun(f"loso-pooled:{left_out}", _alone(plan), (POOL,), pool, (left_out,))


def _with_pool(files: _Files, names: tuple[str, ...]) -> _Files:
    """Return the files with a data holder that has all of the named sites' data."""
    return {**files, POOL: tuple(path for name in names for path in files[name])}


def _alone(plan: Plan) -> Plan:
    """Return the plan of one data holder: nothing to weigh, and no round interrupts its optimizer.

    Nothing travels either, so nothing is filtered, rounded or hidden on the way. Everything else is
    the same: network, optimizer, schedule, steps by round and rounds.
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
    if (server_folder / "model.safetensors").exists():
        return
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
