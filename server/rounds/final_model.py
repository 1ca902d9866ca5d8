"""The file that a run ends with: final model, card, and harmonization parameters."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path

from fedmri.round import Layout, Weights
from fedmri.server.views.history import read_history
from fedmri.server.views.pooling import SiteScores, pool
from fedmri.trained.file.card import CardScore, Entries, Provenance, card_of
from fedmri.trained.file.model_file import ModelFile, write_model
from fedmri.trained.file.names import MODEL

NOT_SCORES = frozenset({"loss", "seconds", "is_adapted", "epsilon_at_least"})
"""What sites report with their scores and what is none."""


def write_final(
    folder: Path,
    origin: Provenance,
    entries: Layout,
    model: Weights,
    harmonized: Mapping[str, Weights],
) -> None:
    """Write the file of a finished model into the folder of its run.

    Args:
        folder: Folder of the run, with its records.
        origin: Plan, arm, sites and round.
        entries: Which entries of the network are what.
        model: All entries; those that sites keep have their initial values.
        harmonized: Parameters that were sent with the model where it was scored, by group.
    """
    kept = origin.plan.strategy.local_names(entries)
    scores = tested(folder, origin.sites)
    card = card_of(origin, Entries.of(entries, kept), scores)
    write_model(folder / MODEL, ModelFile(card, model, harmonized))


def tested(folder: Path, sites: Collection[str]) -> dict[str, CardScore]:
    """Return metrics over the test patients of the sites that trained, as far as they told."""
    told = [
        SiteScores(str(record["site"]), int(record["n_subjects"]), dict(record["metrics"]))
        for record in read_history(folder / "metrics.jsonl").of_kind("test")
        if record["status"] == "ok" and record["site"] in sites
    ]
    names = {name for one in told for name in one.metrics} - NOT_SCORES
    found = {name: pool(told, name).estimate for name in sorted(names)}
    return {
        name: CardScore.of(e.value, e.low, e.high, e.n_subjects)
        for name, e in found.items()
        if math.isfinite(e.value)
    }
