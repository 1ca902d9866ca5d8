"""What preparation lost of the label maps, as a run folder tells it."""

from __future__ import annotations

import csv
from pathlib import Path

WARNED_SHARE = 0.01


def label_loss_sentences(path: Path) -> list[str]:
    """Return what a report says of ``label_losses.tsv``; nothing where there is no such file.

    Args:
        path: The file: a line for each scan.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        shares = [float(row["lost_share"]) for row in rows]
        ceilings = [float(row["ceiling_dice"]) for row in rows]
        n_lesions, n_lost = (sum(int(row[n]) for row in rows) for n in ("lesions", "lost_lesions"))
    except FileNotFoundError:
        return []
    except (KeyError, TypeError, ValueError, OSError):
        return [f"{path.name} cannot be read: what preparation loses is not known."]
    if not rows:
        return []
    n_warned = sum(share > WARNED_SHARE for share in shares)
    return [
        f"Preparation loses {_percent(sum(shares) / len(shares))} of a scan's label on average "
        f"and {_percent(max(shares))} at worst.",
        f"{n_warned} of {len(rows)} scans lose more than 1 %, and {n_lost} of {n_lesions} lesions "
        "vanish.",
        f"A perfect prediction of the prepared labels scores Dice {_mean(ceilings):.3f} on "
        f"average, the ceiling, and {min(ceilings):.3f} at worst.",
        "Scores compare with the whole label on the scan's own grid.",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
