"""The bundle of a run: what a journal, a reviewer or another group is given."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # it ships no types

from fedmri.api.claims import ClaimsCheck, lint_claims
from fedmri.api.result import CONFIG, StudyResult
from fedmri.api.submission.answers import answers
from fedmri.api.submission.checklists import (
    CLAIM,
    CLAIM_ITEMS,
    TRIPOD_AI,
    TRIPOD_AI_ITEMS,
    checklist,
)
from fedmri.api.submission.crate import METADATA, crate
from fedmri.api.submission.methods import methods_of
from fedmri.api.tracking.tracked import without_places
from fedmri.config import Experiment, as_yaml, load_resolved
from fedmri.errors import UsageError
from fedmri.evaluate.claims.paper import SHARES
from fedmri.plan import Plan
from fedmri.reports.pages.figure_files import FOLDER
from fedmri.reports.results import Results, load_results
from fedmri.reports.summary import Summary
from fedmri.reports.text.tables import as_json, as_markdown

SETTINGS, CLAIMS = "settings.yaml", "claims.yaml"
AGAIN = f"fedmri simulate --config {SETTINGS} --data PATH"
"""What gives the same table from the bundle and the data."""


@dataclass(frozen=True)
class Bundle:
    """What was written.

    Attributes:
        folder: The bundle.
        claims: What the linter found in its own table of claims.
        without_model: Why it has no MONAI bundle; empty where it has one.
    """

    folder: Path
    claims: ClaimsCheck
    without_model: str


def bundle_run(run: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Bundle:
    """Write the bundle of a run: results, checklists, claims, settings, model and crate.

    It holds no patient: no image, no name of a subject and no path. The report page, which has
    them, stays in the run folder.

    Args:
        run: Folder of a finished run.
        out: Folder, missing or empty; None takes ``bundle`` in the run folder.

    Raises:
        UsageError: It is no run folder (U02, U10 to U14), or there are files in ``out`` (U20).
    """
    result = StudyResult.open(run)
    target = Path(out or result.folder / "bundle").expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        fix, what = "name a folder that is missing or empty", f"folder {target}"
        raise UsageError("U20", what, found="files in it", want="nothing in it", fix=fix)
    experiment, summary = load_resolved(result.folder / CONFIG), result.summary
    with tempfile.TemporaryDirectory(prefix="fedmri-") as place:
        folder = Path(place) / "bundle"
        folder.mkdir()
        results = load_results(result.folder)
        _write_results(folder, results, summary, experiment)
        found = _write_claims(folder, results, summary, experiment.plan)
        without_model = _write_model(folder, result)
        _write(folder / "README.md", _readme(result, without_model))
        record = {
            **results.environment,
            "command": AGAIN,
        }  # the run's own names a path of this machine
        metadata = crate(folder, result.folder.resolve().name, record)
        _write(folder / METADATA, json.dumps(metadata, indent=1, ensure_ascii=False) + "\n")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, target, dirs_exist_ok=True)
    return Bundle(target, found, without_model)


def _write_results(
    folder: Path, results: Results, summary: Summary, experiment: Experiment
) -> None:
    known = answers(results, summary, experiment)
    _write(folder / "tripod_ai.md", checklist(TRIPOD_AI, TRIPOD_AI_ITEMS, known))
    _write(folder / "claim.md", checklist(CLAIM, CLAIM_ITEMS, known))
    _write(folder / "results.json", as_json(summary))
    _write(folder / "results.md", as_markdown(summary))
    _write(folder / SETTINGS, as_yaml(without_places(experiment)))
    shutil.copytree(results.run / FOLDER, folder / FOLDER)


def _write_claims(folder: Path, results: Results, summary: Summary, plan: Plan) -> ClaimsCheck:
    paper = {"paper": plan.name, **claims_of(results, summary, plan)}
    _write(folder / CLAIMS, yaml.safe_dump(paper, sort_keys=False, allow_unicode=True))
    found = lint_claims(paper)
    lines = [f"- {one.severity}: {one.claim or 'methods'}: {one.text}" for one in found.findings]
    head = f"{found.n_claims} claims, checked by arithmetic: {len(lines)} findings."
    _write(folder / "claims.md", "\n".join(["# Claims", "", head, "", *lines, ""]))
    return found


def claims_of(results: Results, summary: Summary, plan: Plan) -> dict[str, Any]:
    """Return the table of claims of a run, as the linter reads it."""
    rows = [row for row in summary.rows if not row.group.is_beside]
    claims = [
        {
            "name": row.label,
            "n": max(one.n_subjects for one in shares.values()),
            # a mean over trainings is no share of patients
            **({"average": "folds"} if row.n_seeds > 1 or row.group.reading == "mean" else {}),
            **{name: f"{one.value:.4f}" for name, one in shares.items()},
        }
        for row in rows
        if (shares := {n: e for n, e in row.overall.items() if n in SHARES and e.value == e.value})
    ]
    return {"claims": claims, "methods": methods_of(results, summary, plan)}


def _write_model(folder: Path, result: StudyResult) -> str:
    """Write card and MONAI bundle of the first model; return why there is no bundle of it."""
    from fedmri.export.exporting import ExportOptions, export
    from fedmri.trained.describe import describe

    label = result.summary.rows[0].group.arms[0]
    try:
        model = result.model(label)
        facts = describe(model.file.card)
        lines = [f"- **{name}**: {text}" for name, text in facts.items()]
        _write(folder / "model_card.md", "\n".join(["# Model card", "", *lines, ""]))
        export(model.file, folder / "model", ExportOptions(("monai",)))
    except UsageError as error:
        return str(error)
    return ""


def _readme(result: StudyResult, without_model: str) -> str:
    model = f"There is no MONAI bundle: {without_model}" if without_model else "model/bundle"
    return f"""# Bundle of {result.folder.resolve().name}

Research use only. The bundle holds no patient.

- Results: results.md, results.json, figures/ (SVG and CSV)
- Checklists: tripod_ai.md, claim.md. Items that only authors know are open and named.
- Claims, checked by arithmetic: claims.yaml, claims.md
- Model: {model}

The same data, versions and settings give the same table on a CPU:

    {AGAIN}
"""


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
