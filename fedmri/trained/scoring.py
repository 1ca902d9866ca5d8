"""The scores and intervals of a run's report for any data set, without training."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from fedmri.arm import Arm, Comparison, Group
from fedmri.data.batches.examples import open_site
from fedmri.data.batches.site_data import Split
from fedmri.data.checks.check import enforce, examine
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import write_site
from fedmri.data.read import count_by_site, read
from fedmri.data.scans import Finding, Scan, ScanTable
from fedmri.errors import DataError, UsageError
from fedmri.machine.file_names import file_name
from fedmri.reports.results import Results, SiteCases
from fedmri.reports.summary import Summary, summarise
from fedmri.tasks.task import Case
from fedmri.trained.file.model_file import ModelFile
from fedmri.trained.harmonized import as_trained, scored_with, task_of
from fedmri.trained.predict import make_network
from fedmri.training.computing.device import reproducible
from fedmri.training.evaluation import adapt_norm_statistics, evaluate

LABEL = "model"
"""Name of the one model of the table."""


@dataclass(frozen=True)
class ScoreOptions:
    """What is scored.

    Attributes:
        site: Site of all scans, where the data set does not say.
        patients: Patients to score; empty scores all.
        device: As ``train.device``; ``""`` takes the plan's.
        cache: Folder of prepared scans; None keeps none.
    """

    site: str = ""
    patients: Collection[str] = ()
    device: str = ""
    cache: Path | None = None


@dataclass(frozen=True)
class Scored:
    """What a model reached on a data set.

    Attributes:
        summary: Scores with intervals, as a simulation's report has them.
        cases: Results of each patient, by site.
        findings: What was odd, and which scans were left out for it.
        adapted: Sites to whose very images the model was adapted, without their answers.
    """

    summary: Summary
    cases: SiteCases
    findings: tuple[Finding, ...]
    adapted: tuple[str, ...] = ()


def score(
    file: ModelFile, data: Path, options: ScoreOptions, network: nn.Module | None = None
) -> Scored:
    """Score a model on every patient of a data set, as a simulation scores an external one.

    Args:
        file: The model.
        data: The data set.
        options: What is scored, and where.
        network: What stands for the file's own network, such as one of another format.

    Raises:
        DataError: The data set cannot be scored on, or a site lost all of its scans (D64).
        UsageError: The model lacks layers that each site trains for itself (U72), or no patient is
            one of those that were asked for (U74).
    """
    _refuse_headless(file)
    scans, findings = _scans(file, data, options)
    with tempfile.TemporaryDirectory(prefix="fedmri-") as folder:
        cache = options.cache or Path(folder) / "cache"
        cases: dict[str, tuple[Case, ...]] = {}
        adapted: list[str] = []
        for site in sorted({scan.site for scan in scans}):
            own = [scan for scan in scans if scan.site == site]
            path, said = _prepared(file, own, Path(folder), cache)
            findings += said
            tested = network or make_network(file)
            cases[site], is_adapted = _evaluated(file, tested, path, site, options.device)
            adapted += [site] if is_adapted else []
    summary = summarise(_results(data, file, cases), file.card.plan.target)
    notes = (*summary.notes, *(_adapted_note(adapted) if adapted else ()))
    return Scored(replace(summary, notes=notes), cases, tuple(findings), tuple(adapted))


def _refuse_headless(file: ModelFile) -> None:
    """Refuse a model of which each site trains layers for itself; batch norm can be adapted."""
    entries = file.card.entries
    own = {*entries.parameters} - {*entries.norm_parameters}
    if kept := sorted(own & {*entries.at_sites}):
        found = f"{len(kept)} that each site keeps, such as {kept[0]}"
        fix = "look at the scores of the run's own sites, or share the whole model"
        raise UsageError("U72", "layers of the model", found=found, want="all of them", fix=fix)


def _scans(file: ModelFile, data: Path, options: ScoreOptions) -> tuple[list[Scan], list[Finding]]:
    plan = file.card.plan
    source = replace(plan.data.source, path=str(data), sites=(), site=options.site)
    table = _only(read(source), options.patients)
    table = examine(table, plan.target, plan.data.check, source.channels, source.declared)
    enforce(table, plan.data.check)
    return list(table.scans), list(table.findings)


def _only(table: ScanTable, patients: Collection[str]) -> ScanTable:
    """Return the scans of some patients, as if there were no others; of all where none is named."""
    if not patients:
        return table
    wanted = {*patients}
    scans = tuple(scan for scan in table.scans if scan.subject in wanted)
    if not scans:
        fix = "name patients as the data set does"
        found = f"none of {len(wanted)}"
        raise UsageError("U74", "patients to score", found=found, want="one or more", fix=fix)
    findings = tuple(f for f in table.findings if not f.subject or f.subject in wanted)
    return ScanTable(scans, findings, count_by_site(scans, findings))


def _prepared(
    file: ModelFile, scans: Sequence[Scan], folder: Path, cache: Path
) -> tuple[Path, tuple[Finding, ...]]:
    plan = file.card.plan
    splits: dict[str, Split] = {scan.subject: "test" for scan in scans}
    prepared = prepare_scans(scans, plan.target, plan.data, splits, cache)
    if not prepared.scans:
        what, want = f"preparation of {scans[0].site}", "one scan of each site"
        found, fix = f"none; {prepared.findings[0].reason}", "correct the scans"
        raise DataError("D64", what, found=found, want=want, fix=fix)
    path = folder / f"{file_name(scans[0].site)}.json"
    write_site(path, prepared)
    return path, prepared.findings


def _evaluated(
    file: ModelFile, network: nn.Module, path: Path, site: str, device: str
) -> tuple[tuple[Case, ...], bool]:
    """Return the cases of a site, and whether the model was adapted to the images scored."""
    plan = file.card.plan
    data = as_trained(open_site([path], plan.target, plan.data), file)
    train, is_adapted = replace(plan.train, device=device or plan.train.device), False
    if file.card.entries.at_sites:
        is_adapted = adapt_norm_statistics(network, data, "test", train)
    with (
        reproducible(plan.train.n_threads),
        scored_with(file, network, data, site, "test") as is_fitted,
    ):
        found = evaluate(network, data, "test", task_of(file), train, wanted=plan.data)
    return found.cases, is_adapted or is_fitted


def _results(data: Path, file: ModelFile, cases: SiteCases) -> Results:
    """Return the cases as a run's report reads them."""
    of_one = {(LABEL, file.card.plan.seed): cases}
    row = Group(LABEL, "federated", (LABEL,))
    comparison = Comparison((Arm("federated"),), (row,))
    return Results(data, "", {}, (), {}, (), of_one, comparison)


def _adapted_note(sites: Sequence[str]) -> tuple[str, ...]:
    return (
        f"Transductive scores: the model was adapted to the very images that are scored, without "
        f"their answers, at {', '.join(sites)}. A hospital with one new patient has less.",
    )
