"""A run's results, copied out of the server's folder and checked on the way."""

from __future__ import annotations

import shutil
from pathlib import Path

from fedmri.errors import UsageError
from fedmri.server.registry.home import ServerHome
from fedmri.server.views.run_report import RunResult, read_result, write_run_report
from fedmri.server.views.status import run_folder
from fedmri.trained.file.names import MODEL

REPORT = "report.html"
_OTHERS = ("metrics.jsonl", "signed.json", "plan.yaml", "log.txt", "parameters.npz", "unet.yaml")


def fetch_run(home: ServerHome, name: str, target: Path, *, is_partial: bool = False) -> RunResult:
    """Copy a run's model, records, signed plan and log, and write its report beside them.

    Args:
        home: The server's folder.
        name: The run.
        target: Folder to make; an empty one will do.
        is_partial: Take what there is of a run that has no model yet.

    Raises:
        UsageError: There is no such run (U52), a file of it is broken (U41), it has no model
            (U42), the target holds files (U43), or the model is not the recorded one (U44).
        RoundError: The model's file is damaged (R06).
    """
    folder, result = run_folder(home, name), read_result(home, name)
    has_model = (folder / MODEL).exists()
    if not has_model and not is_partial:
        found = f"none: the run is {result.status.status}"
        fix = "wait for its end, or take what there is with --partial"
        raise UsageError("U42", f"model of run {name}", found=found, want="one", fix=fix)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        fix = "name a folder that is missing or empty"
        found = "files in it" if target.is_dir() else "a file"
        raise UsageError("U43", f"folder {target}", found=found, want="nothing in it", fix=fix)
    target.mkdir(parents=True, exist_ok=True)
    for file in _OTHERS:
        if (folder / file).exists():
            shutil.copyfile(folder / file, target / file)
    if has_model:
        shutil.copyfile(folder / MODEL, target / MODEL)
        _check_model(target / MODEL, result.status.sha256)
    write_run_report(home, name, target / REPORT)
    return result


def _check_model(path: Path, recorded: str) -> None:
    """Refuse a copy whose weights are not those that the run ended with."""
    from fedmri.server.rounds.checkpoint import digest, load_weights_file

    found = digest(load_weights_file(path)[0])  # of the weights alone, as it was recorded
    if recorded and found != recorded:
        fix = "restore the run's folder from a backup, or submit the plan again"
        want = f"{recorded[:12]}, as recorded"
        what = f"weights of {path}"
        raise UsageError("U44", what, found=f"SHA-256 {found[:12]}", want=want, fix=fix)
