"""What a coordinator looks at closer: curves by site, the log, the model, the report."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)

from fedmri.errors import UsageError
from fedmri.server.registry.home import ServerHome
from fedmri.server.views.fetch import REPORT
from fedmri.server.views.history import finite, read_history, read_plan_facts
from fedmri.server.views.run_report import write_run_report
from fedmri.server.views.status import run_folder
from fedmri.trained.file.names import MODEL

N_POINTS = 200
"""Points of a curve: a screen shows no more."""
LOG_BYTES = 64 * 1024

Curve = list[tuple[int, float]]


def curves(home: ServerHome, name: str) -> Response:
    """Return each site's training loss and validation metric by round."""
    folder = run_folder(home, name)
    history, metric = read_history(folder / "metrics.jsonl"), _metric(folder)
    found: dict[str, dict[str, Curve]] = {}
    for what, kind in (("loss", "round"), ("metric", "validation")):
        for record in history.of_kind(kind):
            values = record if kind == "round" else record.get("metrics") or {}
            value = finite(values.get("loss" if kind == "round" else metric))
            if value is not None and record["status"] == "ok":
                site = found.setdefault(str(record["site"]), {"loss": [], "metric": []})
                site[what].append((record["round"], value))
    thin = {
        site: {what: curve[:: -(-len(curve) // N_POINTS) or 1] for what, curve in of_site.items()}
        for site, of_site in sorted(found.items())
    }
    return JSONResponse({"metric": metric, "sites": thin})


def log_end(home: ServerHome, name: str) -> Response:
    """Return the end of a run's log, from the start of a line."""
    path = run_folder(home, name) / "log.txt"
    if not path.exists():
        return PlainTextResponse("The run has no log yet.\n")
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - LOG_BYTES))
        text = file.read().decode("utf-8", "replace")
    return PlainTextResponse(text if size <= LOG_BYTES else text.partition("\n")[2])


def model(home: ServerHome, name: str) -> Response:
    """Return the file of a finished run's model.

    Raises:
        UsageError: There is none yet (U42).
    """
    path = run_folder(home, name) / MODEL
    if not path.exists():
        fix = "wait for the end of the run"
        raise UsageError("U42", f"model of run {name}", found="none", want="one", fix=fix)
    return FileResponse(path, filename=f"{name}.safetensors")


def report(home: ServerHome, name: str) -> Response:
    """Return the report page of a run, as `fedmri server fetch` writes it."""
    with TemporaryDirectory(prefix="fedmri-report-") as folder:
        path = Path(folder) / REPORT
        write_run_report(home, name, path)
        headers = {"content-disposition": f'attachment; filename="{name}.html"'}
        return HTMLResponse(path.read_text(encoding="utf-8"), headers=headers)


def _metric(folder: Path) -> str:
    return read_plan_facts(folder / "signed.json").target.primary


DETAILS = {"curves.json": curves, "log.txt": log_end, "model": model, "report": report}
"""Addresses of the page, and what each answers for a run."""
