"""The arms of a comparison: each is a run of the same server and clients over other members."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from flwr.app import Context, RecordDict

from fedmri.arm import Arm
from fedmri.clients.app import app as client_app
from fedmri.clients.training.protection.secure import simulated_key
from fedmri.data.preparation.prepared import read_site
from fedmri.errors import ConfigError, DataError, FedmriError, require
from fedmri.machine.file_names import file_name
from fedmri.models.pretrained import file_sha256
from fedmri.plan import Plan, StartConfig, to_json
from fedmri.secagg.masks import ssh_text
from fedmri.secagg.secure_sum import Roll
from fedmri.server.app import create_app
from fedmri.server.late.closed import FILE
from fedmri.server.rounds.records import Observer
from fedmri.simulation.arms.arm_runs import ArmRun, ArmSites
from fedmri.simulation.arms.store import Store, training_key
from fedmri.simulation.engines.flower import Node, SimulatedGrid
from fedmri.simulation.engines.in_process import InProcessGrid
from fedmri.simulation.engines.pool import Engine, PooledGrid
from fedmri.simulation.protocol import PROTOCOLS
from fedmri.simulation.settings import SimulationConfig
from fedmri.trained.file.names import MODEL
from fedmri.trained.file.run_folder import put_ranges
from fedmri.wire.grid import RUN_ID, SERVER_NODE

log = logging.getLogger("fedmri.simulation")

Patient: TypeAlias = "tuple[str, str]"
"""Site and name."""

N_WAITING = 1
"""Arms beyond one a worker: their sites fill the gaps where a federation waits for its last."""


def arm_runs(plan: Plan, config: SimulationConfig, sites: ArmSites) -> tuple[ArmRun, ...]:
    """Return all trainings of a comparison, the federated ones first."""
    protocol = PROTOCOLS.made(config.protocol)
    seeds = range(plan.seed, plan.seed + config.n_seeds)
    runs = [run for seed in seeds for run in protocol.runs(replace(plan, seed=seed), config, sites)]
    policy = {"max-leakage": f"{config.max_leakage}", "leakage-every": f"{config.leakage_every}"}
    # a data holder on its own sends nothing
    slow, replayed = config.slow_sites, Path(config.replay).expanduser() if config.replay else None
    _refuse_unknown(slow, sites.names)
    runs = [
        replace(run, policy=policy, slow=slow, replayed=replayed) if len(run.members) > 1 else run
        for run in runs
    ]
    return tuple(sorted(runs, key=lambda run: len(run.members) == 1))


def _refuse_unknown(slow: Mapping[str, int], sites: Sequence[str]) -> None:
    """Refuse slowness of a site that is not there (C01)."""
    for site in slow:
        require(site in sites, "simulation.slow", site, f"sites among {', '.join(sites)}")


def refuse_known(runs: Sequence[ArmRun]) -> None:
    """Refuse to test an arm on patients that it trained or was chosen on.

    A damaged file of a site is passed over here: the site says so itself when it trains.

    Raises:
        ConfigError: A patient of the test is known to the arm (C15).
    """
    sides: dict[Path, tuple[set[Patient], set[Patient]]] = {}
    for run in runs:
        for path in (path for paths in run.prepared.values() for path in paths):
            sides.setdefault(path, _sides(path))
        known = {name for m in run.members for path in run.prepared[m] for name in sides[path][0]}
        for site in run.tested:
            asked = {name for path in run.prepared[site] for name in sides[path][1]}
            if both := sorted(known & asked):
                found = f"{len(both)} patients of {site} on both sides, such as {both[0][1]}"
                fix = "prepare the data again in a new run folder"
                raise ConfigError(
                    "C15", f"arm {run.label}", found=found, want="tests of new patients", fix=fix
                )


def _sides(path: Path) -> tuple[set[Patient], set[Patient]]:
    """Return the patients of a prepared site that are learned from, and those that are tested.

    Names count by site: an external data set may have a patient 1, too.
    """
    try:
        scans = read_site(path).scans
    except DataError:
        return set(), set()
    known = {(scan.site, scan.subject) for scan in scans if scan.split != "test"}
    return known, {(scan.site, scan.subject) for scan in scans if scan.split == "test"}


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
) -> dict[Arm, str]:
    """Run all arms, side by side where there are workers; return the error of each that failed.

    What goes on from another arm's model waits for it.
    """
    failed: dict[Arm, str] = {}

    def attempt(run: ArmRun) -> None:
        try:
            _run_stored(
                run, runs, partial(run_arm, run, folder, config, engine, observe), folder, config
            )
        except FedmriError as error:
            log.error("arm %s failed: %s", run.label, error)
            failed[run.arm] = str(error)

    for are_begun in (False, True):
        now = [run for run in runs if (run.start is not None) is are_begun]
        if engine is None:
            for run in now:
                attempt(run)
        else:
            _side_by_side(attempt, now, engine.n_workers + N_WAITING)
    return failed


def _side_by_side(work: Callable[[ArmRun], None], runs: Sequence[ArmRun], n_threads: int) -> None:
    # The pooled arm trains as long as all sites of a federation, on one worker: it starts first.
    order = sorted(runs, key=lambda run: run.arm.role != "pooled")
    threads = ThreadPoolExecutor(n_threads)
    try:
        for future in [threads.submit(work, run) for run in order]:
            future.result()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _run_stored(
    run: ArmRun,
    runs: Sequence[ArmRun],
    work: Callable[[], None],
    folder: Path,
    config: SimulationConfig,
) -> None:
    """Take an arm that another run has finished, or run it and keep it for others."""
    if not config.store:
        work()
        return
    store, key = Store(Path(config.store).expanduser()), training_key(run, config, runs)
    is_done = (folder / "arms" / run.path / MODEL).exists()
    is_taken = not is_done and store.take_training(run, folder, key)
    work()
    if not is_taken:
        store.keep_training(run, folder, key)


def run_arm(
    run: ArmRun, folder: Path, study: SimulationConfig, engine: Engine | None, observe: Observer
) -> None:
    """Run the server's and the clients' apps of one arm, or what is left of it."""
    server_folder = folder / "arms" / run.path
    if not (server_folder / MODEL).exists():
        _train(run, folder, study, engine, observe)
    put_ranges(server_folder / MODEL, [path for m in run.members for path in run.prepared[m]])


def _train(
    run: ArmRun, folder: Path, study: SimulationConfig, engine: Engine | None, observe: Observer
) -> None:
    server_folder = folder / "arms" / run.path
    server_folder.mkdir(parents=True, exist_ok=True)
    weights = str(Path(study.weights).expanduser()) if study.weights else ""
    if run.start is not None:
        run, weights = _started(run, run.start, folder)
    config: dict[str, str | int] = {
        "plan": to_json(run.plan),
        "arm": json.dumps(asdict(run.arm)),
        "members": json.dumps(run.members),
        "tested": json.dumps(run.tested),
        "folder": str(server_folder),
        "n-pictures": study.n_pictures,
    }
    if weights:
        config["weights"] = weights
    if run.slow:
        config["slow"] = json.dumps(dict(run.slow))
    if run.replayed is not None and not (server_folder / FILE).exists():
        shutil.copyfile(run.replayed, server_folder / FILE)
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


def _started(run: ArmRun, start: Arm, folder: Path) -> tuple[ArmRun, str]:
    """Return a training that goes on from the model of another, and the file of that model."""
    file = folder / "arms" / run.folder_of(start) / MODEL
    begun = StartConfig(file_sha256(file))
    return replace(run, plan=replace(run.plan, start=begun)), str(file)


def simulated_roll(label: str, plan: Plan, members: Sequence[str]) -> Roll:
    """Return who takes part in the secure sums of an arm, with keys that protect nothing."""
    keys = {site: ssh_text(simulated_key(site).public_key()) for site in members}
    return Roll(f"{label} {plan.fingerprint}", keys, plan.secagg.threshold)


def _node(site: str, run: ArmRun, folder: Path) -> Node:
    prepared = json.dumps([str(path) for path in run.prepared[site]])
    own = folder / "sites" / file_name(site) / run.path
    told = {"site": site, "prepared": prepared, "folder": str(own), **run.policy}
    if run.arm.role in ("federated", "pooled"):
        told["embeddings"] = "yes"  # for the report: whether they tell the site
    return Node(site, told)
