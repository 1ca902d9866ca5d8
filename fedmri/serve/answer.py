"""What is answered to an upload: each scan with its values, volumes, remarks and mask."""

from __future__ import annotations

import base64
import csv
from pathlib import Path
from typing import Any

from fedmri.trained.model import TrainedModel
from fedmri.trained.outputs import FIRST_COLUMNS, LAST_COLUMNS, MISSING, SCANS

GONE = "left out"


def answer_of(model: TrainedModel, path: Path, folder: Path) -> dict[str, Any]:
    """Return the answer to an upload, as JSON has it.

    Args:
        model: The model.
        path: A scan or a folder of them.
        folder: Where the derivative is written before it is answered.

    Returns:
        ``model``, ``weights_sha256``, ``intended_use``, ``scans`` and ``left_out``. Each scan has
        its ``name``, ``values`` by column, ``remarks``, and for masks ``file`` and ``mask``, the
        bytes of the NIfTI or PNG file in base64.

    Raises:
        FedmriError: As ``TrainedModel.predict`` says.
    """
    out = folder / "out"
    model.predict(path, out=out)
    with (out / SCANS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    gone = [row for row in rows if row["status"] == GONE]
    return {
        "model": model.card.plan.name,
        "weights_sha256": model.card.sha256,
        "intended_use": model.card.intended_use,
        "scans": [_scan(row, out) for row in rows if row["status"] != GONE],
        "left_out": [
            {"name": row["scan"], "code": row["codes"], "reason": row["remarks"]} for row in gone
        ],
    }


def _scan(row: dict[str, str], out: Path) -> dict[str, Any]:
    fixed = {*FIRST_COLUMNS, *LAST_COLUMNS}
    values = {name: text for name, text in row.items() if name not in fixed and text != MISSING}
    said = "" if row["remarks"] == MISSING else row["remarks"]
    found: dict[str, Any] = {"name": row["scan"], "values": values, "remarks": said}
    if row["file"] != MISSING:
        path = out / row["file"]
        found |= {"file": path.name, "mask": base64.b64encode(path.read_bytes()).decode()}
    return found
