"""Names in the file of a trained model."""

from __future__ import annotations

MODEL = "model.safetensors"
"""The file, in the folder of a run and of an arm."""

PARAMETERS = "parameters/"
"""How the names of harmonization parameters begin; no entry of a network has a slash."""

CARD = "notes"
"""The one text of the file's metadata: the card, as JSON."""
