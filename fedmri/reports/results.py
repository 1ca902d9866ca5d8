"""A run folder as it lies on disk, read and checked: the one reader of its format."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmri.arm import Comparison, read_comparison
from fedmri.errors import UsageError
from fedmri.machine.file_names import label_of, read_names
from fedmri.round import Truth
from fedmri.tasks.task import Case

TRIALS = "trials.json"
"""File of a run folder whose arms were chosen among several runs: how many, and by what."""
EXTERNAL = "external:"
"""Prefix of a test site that took no part in training."""

Record = Mapping[str, Any]
SiteCases = Mapping[str, tuple[Case, ...]]


@dataclass(frozen=True)
class ManifestFinding:
    """What was odd about a scan, and whether the scan was left out for it."""

    site: str
    subject: str
    session: str
    code: str
    reason: str
    is_excluded: bool


@dataclass(frozen=True)
class Usage:
    """Scans of a site, used and found, and patients in each split; None where it is not said."""

    used: int
    found: int
    train: int | None = None
    val: int | None = None
    test: int | None = None


@dataclass(frozen=True)
class Results:
    """All that a run left behind, but for its pictures and weights.

    Attributes:
        run: The folder.
        config: Resolved configuration, YAML as it was written.
        environment: Command, versions, machine, data fingerprints, start and duration.
        findings: What the checks before the split found.
        usage: By site.
        records: Of rounds, validations and totals, in order; the last of each kind, arm, seed,
            round and site.
        cases: Test patients by label of the arm and seed, then by site.
        comparison: What the arms are, and how they are read as rows.
        warnings: What was odd but could be read.
        validated: Validation patients, as ``cases``; empty where the run kept none.
    """

    run: Path
    config: str
    environment: Record
    findings: tuple[ManifestFinding, ...]
    usage: Mapping[str, Usage]
    records: tuple[Record, ...]
    cases: Mapping[tuple[str, int], SiteCases]
    comparison: Comparison
    warnings: tuple[str, ...] = field(default=())
    validated: Mapping[tuple[str, int], SiteCases] = field(default_factory=dict)

    def of_kind(self, kind: str) -> Iterator[Record]:
        """Yield the records of one kind: ``round``, ``validation`` or ``round_total``."""
        return (record for record in self.records if record["kind"] == kind)


def load_results(run: Path) -> Results:
    """Read a run folder.

    Args:
        run: Folder that a run wrote: ``config.yaml``, ``environment.json``, ``manifest.tsv``,
            ``used.json``, ``metrics.jsonl`` and ``cases/``.

    Raises:
        UsageError: A file is missing (U10) or broken (U11), no patient was tested (U12), or the
            cases of two models contradict each other (U13).
    """
    records, warnings = _records(run / "metrics.jsonl")
    names = read_names(run)
    cases = _tested(run / "cases", names)
    usage = _usage(run / "used.json")
    comparison = read_comparison(run)
    _check_cases(cases, run)
    _refuse_known(cases, usage, comparison, run)
    findings = _findings(run / "manifest.tsv")
    return Results(
        run=run,
        config=_text(run / "config.yaml"),
        environment=_object(run / "environment.json"),
        findings=findings,
        usage=usage,
        records=records,
        cases=cases,
        comparison=comparison,
        warnings=(
            *lost_by_choice(run),
            *_chosen(run),
            *warnings,
            *_taken_apart(findings),
            *_of_findings(findings),
            *_untested(records, cases),
        ),
        validated=_all_cases(run / "validation", names),
    )


def n_trials_of(run: Path) -> int:
    """Return how many settings were tried for the arms of a run; 1 where nothing was chosen."""
    return int(_object(run / TRIALS).get("n_trials", 1)) if (run / TRIALS).exists() else 1


def _chosen(run: Path) -> Iterator[str]:
    """Yield how the settings of the arms were chosen, where they were."""
    if not (run / TRIALS).exists():
        return
    told, n = _object(run / TRIALS), n_trials_of(run)
    yield (
        f"The settings of each arm were chosen on validation patients among {n} trials. "
        "Every arm had as many."
    )
    if n_failed := told.get("n_failed"):
        yield f"{n_failed} of the trials failed, and no arm was chosen among them."
    if told.get("is_private"):
        yield f"Each of the {n} trials spent its own epsilon: together they give away more."
        if spent := told.get("spent"):
            yield (
                f"Over all trials together, epsilon is {spent['epsilon']:.3g} at most, with delta "
                f"{spent['delta']:.2g}, for the patient who loses most."
            )


def lost_by_choice(run: Path) -> tuple[str, ...]:
    """Return which sites went on without many of their scans, as settings asked."""
    findings = _findings(run / "manifest.tsv")
    return tuple(finding.reason for finding in findings if finding.code == "D67")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        fix = "name the folder of a run that has finished"
        what = f"run folder {path.parent}"
        raise UsageError("U10", what, found=f"no {path.name}", want="it", fix=fix) from error
    except UnicodeDecodeError as error:
        raise _broken(path, "bytes that are not UTF-8", "UTF-8 text") from error


def _broken(path: Path, found: str, want: str) -> UsageError:
    fix = f"restore {path.name} or run the experiment again"
    return UsageError("U11", f"{path} of a run folder", found=found, want=want, fix=fix)


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise _broken(path, f"no JSON at line {error.lineno}", "a JSON object") from error
    if not isinstance(value, dict):
        raise _broken(path, type(value).__name__, "a JSON object")
    return value


def _findings(path: Path) -> tuple[ManifestFinding, ...]:
    wanted = {"site", "subject", "session", "code", "excluded", "reason"}
    lines = _text(path).split("\n")
    rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    if missing := wanted - set(rows.fieldnames or ()):
        raise _broken(path, f"no column {', '.join(sorted(missing))}", "the columns of a manifest")
    return tuple(_finding(row) for row in rows if row["code"])


def _finding(row: Mapping[str, str | None]) -> ManifestFinding:
    names = ("site", "subject", "session", "code", "reason")
    site, subject, session, code, reason = (row[name] or "" for name in names)
    return ManifestFinding(site, subject, session, code, reason, row["excluded"] == "yes")


def _usage(path: Path) -> dict[str, Usage]:
    try:
        return {site: Usage(**counts) for site, counts in _object(path).items()}
    except TypeError as error:
        raise _broken(path, str(error), "used, found, train, val and test by site") from error


def _records(path: Path) -> tuple[tuple[Record, ...], list[str]]:
    records, torn = _lines(path, needed="kind")
    # A resumed run may repeat a round: the later record is the one that the model went on from.
    keys = ("kind", "arm", "seed", "round", "site", "stage")
    kept = {tuple(record.get(key) for key in keys): record for record in records}
    warning = "The last line of metrics.jsonl is torn: the run was cut off while it wrote."
    return tuple(kept.values()), [warning] if torn else []


def _lines(path: Path, *, needed: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the objects of a JSONL file, and whether its last line was torn."""
    lines = [line for line in _text(path).split("\n") if line.strip()]
    objects: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                return objects, True
            raise _broken(path, f"no JSON at line {number}", "one JSON object a line") from error
        if not isinstance(value, dict) or needed not in value:
            raise _broken(path, f"no {needed} at line {number}", "one record a line")
        objects.append(value)
    return objects, False


def label_in(names: Mapping[str, str], name: str) -> str:
    """Return the arm or site that a folder or file stands for.

    Args:
        names: The run's index, of ``read_names``; runs of before have none.
        name: Name of the folder, or of the file without its ending.
    """
    return names[name] if name in names else label_of(name)


def site_name(site: str) -> str:
    """Return a site as it is written in a text: ``external:EZ`` is ``EZ (external)``."""
    return f"{site.removeprefix(EXTERNAL)} (external)" if site.startswith(EXTERNAL) else site


def _tested(folder: Path, names: Mapping[str, str]) -> dict[tuple[str, int], SiteCases]:
    """Return the test patients, of whom there must be some."""
    cases = _all_cases(folder, names)
    if not cases:
        what = f"test results under {folder}"
        fix = "let the run finish, or resume it"
        raise UsageError("U12", what, found="no tested patient", want="1 or more", fix=fix)
    return cases


def _all_cases(folder: Path, names: Mapping[str, str]) -> dict[tuple[str, int], SiteCases]:
    cases: dict[tuple[str, int], dict[str, tuple[Case, ...]]] = {}
    for path in sorted(folder.glob("*/seed-*/*.jsonl")):
        seed = path.parent.name.removeprefix("seed-")
        if not seed.isdecimal():
            raise _broken(path, f"folder {path.parent.name}", "seed- and a number")
        arm, site = (label_in(names, name) for name in (path.parents[1].name, path.stem))
        if tested := _cases(path, site):
            cases.setdefault((arm, int(seed)), {})[site] = tested
    return dict(sorted(cases.items()))


def _cases(path: Path, site: str) -> tuple[Case, ...]:
    lines, torn = _lines(path, needed="subject")
    if torn:
        raise _broken(path, "a torn last line", "one case a line")
    try:
        cases = [_case(line, site) for line in lines]
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(path, f"a case without {error}", "the fields of a case") from error
    return tuple(sorted(cases, key=lambda case: case.subject))


def _case(line: Record, site: str) -> Case:
    scores = line.get("scores") or {}
    return Case(
        site=site,
        subject=str(line["subject"]),
        n_examples=int(line["n_examples"]),
        truth=_truth(line["truth"]),
        prediction=tuple(_number(value) for value in line["prediction"]),
        scores={str(name): _number(value) for name, value in scores.items()},
    )


def _truth(value: Any) -> Truth:
    return tuple(map(_number, value)) if isinstance(value, list) else _number(value)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _check_cases(cases: Mapping[tuple[str, int], SiteCases], run: Path) -> None:
    """Refuse patients counted twice, and patients whose truth depends on the model."""
    truths: dict[tuple[str, str], Truth] = {}
    for (arm, seed), sites in cases.items():
        for site, tested in sites.items():
            subjects = [case.subject for case in tested]
            if doubled := _first_doubled(subjects):
                raise _contradiction(run, f"{doubled} of {site} twice under {arm}, seed {seed}")
            for case in tested:
                truth = truths.setdefault((site, case.subject), case.truth)
                if repr(truth) != repr(case.truth):  # NaN is the same as NaN
                    raise _contradiction(run, f"two truths of {case.subject} of {site}")


def _refuse_known(
    cases: Mapping[tuple[str, int], SiteCases],
    usage: Mapping[str, Usage],
    comparison: Comparison,
    run: Path,
) -> None:
    """Refuse an arm that was tested on more patients of a site than it does not know."""
    for (arm, _), sites in cases.items():
        for site, tested in sites.items():
            n_test = usage[site].test if site in usage else None
            of = comparison.arm(arm)
            is_new = site == of.left_out or site.startswith(EXTERNAL) or bool(of.fold)
            if is_new or n_test is None:  # folds divide all patients anew
                continue
            if len(tested) > n_test:
                found = f"{len(tested)} patients of {site} under {arm}, which has {n_test} to test"
                raise _contradiction(run, found)


def _first_doubled(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _contradiction(run: Path, found: str) -> UsageError:
    fix = "run the experiment again: its models were not tested on the same patients"
    what = f"test results of {run}"
    return UsageError("U13", what, found=found, want="each patient once, one truth", fix=fix)


def _taken_apart(findings: Iterable[ManifestFinding]) -> Iterator[str]:
    """Yield one warning where names that look like one patient lie on both sides of the split."""
    if n_groups := sum(finding.code == "C14" for finding in findings):
        yield (
            f"{n_groups} groups of names that look like visits of one patient lie on both sides of "
            "the split (C14). If they are one patient, all scores are too good."
        )


COPIES = ("D17", "D19", "D20", "D21")
"""Codes of patients and images that may be there twice."""


def _of_findings(findings: Iterable[ManifestFinding]) -> Iterator[str]:
    """Yield what makes scores too good or empty: kept copies, cohorts without the disease."""
    kept = [one for one in findings if not one.is_excluded]
    if n_copies := sum(one.code in COPIES for one in kept):
        codes = ", ".join(sorted({one.code for one in kept if one.code in COPIES}))
        yield (
            f"{n_copies} possible copies of scans were kept ({codes}). "
            "If one is trained on and another tested, all scores are too good."
        )
    lacking = {one.site for one in kept if one.code == "D23" and one.site.startswith(EXTERNAL)}
    if lacking:
        named = ", ".join(site_name(site) for site in sorted(lacking))
        yield (
            f"External hospitals without every class (D23): {named}. "
            "Scores there say nothing about the missing class."
        )


def _untested(
    records: Iterable[Record], cases: Mapping[tuple[str, int], SiteCases]
) -> Iterator[str]:
    started = {(str(record.get("arm")), record.get("seed", 0)) for record in records}
    for arm, seed in sorted(started - set(cases)):
        yield f"Arm {arm}, seed {seed}, was trained but not tested: it is left out of all results."
