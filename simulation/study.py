"""A simulated study: prepared sites, arms and results in a run folder that can always go on."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedmri.arm import Arm, write_comparison
from fedmri.assembly import assemble
from fedmri.clients.training.results import CASES, EMBEDDINGS, VALIDATION
from fedmri.compatibility import plan_advice
from fedmri.data.files.folders import existing_folder
from fedmri.data.preparation.prepared import LABEL_LOSSES
from fedmri.data.reader import AUTO, READERS
from fedmri.data.synthetic.data_set import refuse_foreign
from fedmri.errors import ConfigError, HarmonizeError, RoundError, UsageError, told
from fedmri.machine.cache import cache_folder
from fedmri.machine.file_names import file_name, write_names
from fedmri.machine.files import hold
from fedmri.models.pretrained import begin
from fedmri.plan import Plan, to_dict
from fedmri.reports.groups import GROUPS
from fedmri.server.late.closed import FILE
from fedmri.server.rounds.records import Observer
from fedmri.simulation.arms.arm_runs import POOL, ArmRun, ArmSites, by_strategy, size_of
from fedmri.simulation.arms.ensembles import ensemble_arms, write_ensembles
from fedmri.simulation.arms.running import arm_runs, can_train, refuse_known, run_arms
from fedmri.simulation.arms.site_budget import site_budget
from fedmri.simulation.arms.store import PACKAGES, Store, data_key
from fedmri.simulation.arms.votes import vote_arms, write_votes
from fedmri.simulation.divisions import COLUMN, AllTested, divided_site
from fedmri.simulation.engines.pool import Engine, ProcessEngine
from fedmri.simulation.partition import PartitionConfig
from fedmri.simulation.protocol import PROTOCOLS
from fedmri.simulation.references import reference_arms, write_references
from fedmri.simulation.settings import SimulationConfig
from fedmri.simulation.sites import SiteSource, StudySites, prepare_sites
from fedmri.stages.registry import STAGES
from fedmri.strategies.averaging.cyclic import Cyclic
from fedmri.training.budget import Budget

log = logging.getLogger("fedmri.simulation")

CLIENT = "fedmri.clients.app:app"

TINY_SITE_PATIENTS = 2
"""Training patients of a site whose own optimum says little: the travelling model suits such."""


@dataclass(frozen=True)
class Study:
    """What is simulated, and where it is written.

    Attributes:
        plan: What is learned.
        partition: How the scans become sites.
        config: What is compared, and on what machinery.
        folder: Run folder.
        command: The command that repeats it.
    """

    plan: Plan
    partition: PartitionConfig
    config: SimulationConfig
    folder: Path
    command: str


def new_folder(runs: Path, name: str) -> Path:
    """Make and return a run folder ``DATE-NAME`` that is not there yet; the name is made safe."""
    is_safe = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}", name)
    date, safe = f"{dt.datetime.now():%Y-%m-%d}", name if is_safe else file_name(name)
    for number in range(1, 10_000):
        folder = runs / (f"{date}-{safe}" if number == 1 else f"{date}-{safe}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            fix = "set simulation.runs to a folder that can be written"
            found = told(error)
            want = "a writable folder"
            raise UsageError(
                "U01", f"run folder {folder}", found=found, want=want, fix=fix
            ) from error
        return folder
    raise UsageError("U01", "run folder", found=f"10,000 of {name}", want="fewer", fix="set name=…")


def run_study(study: Study, observe: Observer) -> dict[Arm, str]:
    """Prepare, train, test and collect; what an earlier call has done is not done again.

    Returns:
        What went wrong with each arm that failed; the others are complete and collected.

    Raises:
        ConfigError: The plan cannot be carried out; see ``refuse_impossible``.
        PrivacyError: Noise for a whole hospital would drown what is shared (P66, P67).
        DataError: The data cannot be trained on.
        UsageError: Another process works on the run (U02).
    """
    refuse_impossible(study.plan, study.config)
    with _alone_in(study.folder):
        return _run(study, observe)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a run folder: two processes would mix their rounds. The hold ends with the process."""
    try:
        number = hold(folder)
    except BlockingIOError as error:
        found, fix = "another process that works on it", "wait for its end, or end it"
        raise UsageError("U02", f"run {folder}", found=found, want="none", fix=fix) from error
    try:
        yield
    finally:
        os.close(number)


def _run(study: Study, observe: Observer) -> dict[Arm, str]:
    started = time.time()
    folder = study.folder
    sites = _sites_of(study)
    _write_json(folder / "used.json", sites.used)
    arm_sites = _arm_sites(study, sites)
    every = arm_runs(study.plan, study.config, arm_sites)
    arms = _arms(study, arm_sites, every)
    write_names(folder, {POOL, *arm_sites.files, *(arm.label for arm in arms)})
    write_comparison(folder, PROTOCOLS.made(study.config.protocol).comparison(arms))
    n_train = {site: counts["train"] for site, counts in sites.used.items()}
    runs = tuple(run for run in every if can_train(run, n_train))
    for run in (run for run in every if run not in runs):
        log.warning("no arm %s: it has no patient to train on", run.label)
    refuse_known(runs)
    labels = [(run.label, run.plan.seed) for run in runs]
    work = [size_of(run, arm_sites) for run in runs]
    told = advice(study, n_train)
    for text in told:
        log.info("%s", text)
    observe({"kind": "begun", "runs": labels, "advice": told, "work": work})
    engine = make_engine(study)
    try:
        failed = run_arms(runs, folder, study.config, engine, observe)
    finally:
        if engine is not None:
            engine.close()
    _collect(study, runs)
    write_ensembles(folder, every, study.config, study.plan.target)
    write_votes(folder, runs, study.plan, study.config)
    write_references(folder / "cases", study.plan, study.config.n_seeds, arm_sites)
    _write_json(folder / "environment.json", _environment(study, sites, started))
    return failed


def _arms(study: Study, sites: ArmSites, runs: Sequence[ArmRun]) -> tuple[Arm, ...]:
    """Return all arms: those that train, and those that are made of others or of no network."""
    plan, config = study.plan, study.config
    made = (*ensemble_arms(runs, config, plan.target), *vote_arms(runs, plan, config))
    return (*dict.fromkeys(run.arm for run in runs), *reference_arms(sites), *made)


def refuse_impossible(plan: Plan, config: SimulationConfig) -> None:
    """Refuse what could only fail after hours of data: nothing is read, trained or written.

    Raises:
        ConfigError: A network, loss or strategy does not fit the task or the images, or no data
            set is named and the embedded one lacks what the plan wants (C03).
        PrivacyError: Noise for a whole hospital would drown what is shared (P66, P67).
        DataError: A data set is not there (D04).
    """
    _refuse_sums_alone(plan)
    _refuse_late(plan, config)
    if not plan.data.source.path:
        refuse_foreign(plan.target, plan.data.source.modalities)
    PROTOCOLS.made(config.protocol)
    if plan.data.source.layout != AUTO:
        READERS.load(plan.data.source.layout)
    for _, one in by_strategy(plan, config):
        made, file = assemble(one).checked(), config.weights
        begin(made.network, one.start.sha256, _path(file), one.n_channels, one.kind)
    for path in (plan.data.source.path, config.external):
        if path:
            existing_folder(path)


def _refuse_sums_alone(plan: Plan) -> None:
    """Refuse to simulate a plan that ends with sums: of tables (H25), or of scans (C03)."""
    if plan.is_ended_by_sums and not plan.is_for_tables:
        found = ", ".join(STAGES.name_of(stage) for stage in plan.stages)
        fix = "leave the stage out; fedmri.simulation.unet_plan takes the prepared files of a run"
        want, what = "a plan with rounds", "a simulation of sums alone"
        raise ConfigError("C03", what, found=found, want=want, fix=fix)
    if plan.is_for_tables:
        fix = "use `fedmri harmonize TABLE --site-column …`, which simulates the table's sites"
        what, want = "a simulation of tables of features", "a plan for images"
        found = ", ".join(STAGES.name_of(stage) for stage in plan.stages)
        raise HarmonizeError("H25", what, found=found, want=want, fix=fix)


def _refuse_late(plan: Plan, config: SimulationConfig) -> None:
    """Refuse slow sites, or a record of the updates of rounds, where rounds wait for all (C03)."""
    asked = {"simulation.slow": config.slow, "simulation.replay": config.replay}
    found = [name for name, is_set in asked.items() if is_set]
    if found and not plan.rounds.is_late_possible:
        want, fix = "rounds that do not wait for all", "set rounds.close_at=0.75 rounds.late=added"
        raise ConfigError("C03", found[0], found="rounds that wait for all", want=want, fix=fix)
    if config.replay and not Path(config.replay).expanduser().is_file():
        fix = "name the file taken.jsonl of a run"
        raise UsageError("U01", "simulation.replay", found="no file", want="a record", fix=fix)


def taken_file(folder: Path, seed: int) -> Path:
    """Return the record of the updates that the rounds of a run folder took (U10)."""
    path = folder / "arms" / "federated" / f"seed-{seed}" / FILE
    if not path.is_file():
        fix = "resume the run instead: rounds that wait for all need no record"
        want = "a run with rounds.close_at below 1, or rounds.late=added"
        raise UsageError("U10", f"replay of {folder}", found=f"no {path}", want=want, fix=fix)
    return path.absolute()


def _path(file: str) -> Path | None:
    return Path(file).expanduser() if file else None


def advice(study: Study, n_train: Mapping[str, int]) -> tuple[str, ...]:
    """Return what the settings and the numbers of training patients by site suggest."""
    plans = [plan for _, plan in by_strategy(study.plan, study.config)]
    told = [text for plan in plans for text in plan_advice(plan)]
    tiny = sorted(site for site, n in n_train.items() if 0 < n <= TINY_SITE_PATIENTS)
    if tiny and not any(isinstance(plan.strategy, Cyclic) for plan in plans):
        few = f"Sites with {TINY_SITE_PATIENTS} training patients or fewer: {', '.join(tiny)}."
        told.append(f"{few} Look at strategy=cyclic too.")
    return tuple(told)


def refuse_failed(failed: Mapping[Arm, str], folder: Path) -> None:
    """Raise RoundError R08 where an arm of a study failed."""
    if failed:
        found = f"{len(failed)} that failed: {', '.join(arm.label for arm in failed)}"
        fix = f"see {folder / 'log.txt'}, then `fedmri simulate --resume {folder}`"
        error = RoundError("R08", "arms of the study", found=found, want="all complete", fix=fix)
        for arm, text in failed.items():
            error.add_note(f"{arm.label}: {text}")
        raise error


def make_engine(study: Study) -> Engine | None:
    """Return the workers that the settings ask for, or None to train in this process."""
    config, n_workers = study.config, _n_workers(study)
    log_file = study.folder / "log.txt"
    if config.backend == "ray":
        from fedmri.simulation.engines.ray_engine import RayEngine

        return RayEngine(n_workers, CLIENT, log_file)
    return ProcessEngine(n_workers, CLIENT, log_file) if n_workers > 1 else None


def _n_workers(study: Study) -> int:
    cores = len(os.sched_getaffinity(0)) // study.plan.train.n_threads
    return study.config.workers or max(1, cores)


def _sites_of(study: Study) -> StudySites:
    done = study.folder / "prepared" / "sites.json"
    if done.exists():
        return StudySites.read(done)
    place = _shared_place(study)
    place.mkdir(parents=True, exist_ok=True)
    try:
        if not (place / "prepared" / "sites.json").exists():
            prepare_sites(_source_of(study), place).write(place / "prepared" / "sites.json")
    finally:  # a manifest says why data are refused, too
        if place != study.folder:
            done.parent.mkdir(parents=True, exist_ok=True)
            own = (GROUPS, f"prepared/{COLUMN}", "prepared/sites.json")
            for name in ("manifest.tsv", LABEL_LOSSES, *own):
                _copy(place / name, study.folder / name)
    return StudySites.read(done)


def _shared_place(study: Study) -> Path:
    """Return where data are prepared: in the run's folder, or once for all runs of a store."""
    config, plan = study.config, study.plan
    if not config.store:
        return study.folder
    own = to_dict(plan)
    settings = {
        **{name: own[name] for name in ("data", "target", "seed")},
        "partition": asdict(study.partition),
        "column": getattr(PROTOCOLS.made(config.protocol), "column", ""),
        "external": (config.external, config.external_labels, config.is_rest_external),
    }
    key = data_key(settings, (plan.data.source.path, config.external))
    return Store(Path(config.store).expanduser()).place("data", key)


def _source_of(study: Study) -> SiteSource:
    config = study.config
    return SiteSource(
        study.plan,
        study.partition,
        config.external,
        config.is_rest_external,
        cache_folder(config.cache),
        getattr(PROTOCOLS.made(config.protocol), "column", ""),
        config.external_labels,
        _n_workers(study),
    )


def _arm_sites(study: Study, sites: StudySites) -> ArmSites:
    """Return the sites as arms need them; what a first call counted is what later ones go by."""
    whole, folder = {}, study.folder / "prepared"
    if PROTOCOLS.made(study.config.protocol).tests_whole_sites:
        whole = {
            name: divided_site(path, folder / "whole", AllTested())
            for name, path in sites.sites.items()
        }
    path = folder / "budgets.json"
    if not path.exists():
        found = {name: site_budget(study.plan, file) for name, file in sites.sites.items()}
        _write_json(path, {name: asdict(budget) for name, budget in found.items()})
    counted = json.loads(path.read_text(encoding="utf-8"))
    budgets = {name: Budget(**one) for name, one in counted.items()}
    return ArmSites(sites.sites, sites.external, whole, budgets, folder)


def _collect(study: Study, runs: tuple[ArmRun, ...]) -> None:
    """Bring the arms' records, cases and pictures to where the report looks for them."""
    folder = study.folder
    with (folder / "metrics.jsonl").open("wb") as file:
        for run in runs:
            records = folder / "arms" / run.path / "metrics.jsonl"
            if records.exists():
                file.write(records.read_bytes())
    for run in runs:
        for site in run.tested:
            name = file_name(site)
            own = folder / "sites" / name / run.path
            _copy(own / CASES, folder / "cases" / run.path / f"{name}.jsonl")
            _copy(own / VALIDATION, folder / "validation" / run.path / f"{name}.jsonl")
            _copy(own / "pictures.npz", folder / "pictures" / run.path / f"{name}.npz")
            _copy(own / EMBEDDINGS, folder / "embeddings" / run.path / f"{name}.npz")


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _environment(study: Study, sites: StudySites, started: float) -> dict[str, Any]:
    return {
        "command": study.command,
        "fedmri": version("fedmri"),
        "versions": {package: version(package) for package in PACKAGES},
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
        },
        "data_fingerprints": dict(sites.fingerprints),
        "plan": study.plan.fingerprint,
        "started": f"{dt.datetime.fromtimestamp(started):%Y-%m-%dT%H:%M:%S}",
        "seconds": round(time.time() - started, 1),
    }


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")
