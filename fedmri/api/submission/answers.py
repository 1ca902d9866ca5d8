"""What the records of a run answer of what a journal asks."""

from __future__ import annotations

from typing import Any

from fedmri.config import Experiment
from fedmri.models.registry import MODELS
from fedmri.reports.results import Results, site_name
from fedmri.reports.summary import Summary
from fedmri.reports.text.verdicts import five_sentences
from fedmri.reports.text.words import metric_name, number, with_interval
from fedmri.simulation.protocol import PROTOCOLS
from fedmri.strategies.registry import STRATEGIES

CHOICE = {"best": "The best round on validation patients", "last": "The last round"}


def answers(results: Results, summary: Summary, experiment: Experiment) -> dict[str, str]:
    """Return answers in plain sentences, by the name of the record that they come from."""
    plan, simulation = experiment.plan, experiment.simulation
    sentences = five_sentences(summary)
    return {
        **_of_data(results, plan),
        **_of_model(plan, simulation),
        "performance": sentences[0],
        "elsewhere": f"{sentences[2]} {sentences[3]}",
        "heterogeneity": _between_hospitals(summary),
        "measures": f"Primary: {metric_name(summary.metric)}. "
        + ", ".join(sorted({metric_name(m) for row in summary.rows for m in row.overall})),
        "uncertainty": "95 % intervals over patients, with trainings crossed with patients; "
        "differences are paired, and verdicts are adjusted by Holm.",
        "limits": " ".join(summary.notes),
        "software": ", ".join(
            f"{name} {version}" for name, version in _versions(results.environment).items()
        ),
        "plan": f"Plan with SHA-256 {results.environment.get('plan', plan.fingerprint)}.",
        "files": "Model, settings and this list lie in the bundle.",
        "arms": f"Arms: {', '.join(simulation.arms)}.",
    }


def _versions(environment: Any) -> dict[str, str]:
    return dict(environment.get("versions") or {})


def _of_data(results: Results, plan: Any) -> dict[str, str]:
    used = {site_name(site): one for site, one in results.usage.items()}
    excluded = [finding for finding in results.findings if finding.is_excluded]
    codes = sorted({finding.code for finding in excluded})
    counts = "; ".join(
        f"{site}: {one.train or 0} train, {one.val or 0} validate, {one.test or 0} test"
        for site, one in used.items()
    )
    split, target = plan.data.split, plan.target
    prints = dict(results.environment.get("data_fingerprints") or {})
    return {
        "data": "Fingerprints by hospital: "
        + ", ".join(f"{site_name(site)} {text[:12]}" for site, text in prints.items()),
        "sites": f"{len(used)} hospitals: {', '.join(used)}.",
        "patients": counts,
        "missing": f"{len(excluded)} scans left out ({', '.join(codes) or 'no code'}); "
        "a missing modality is told to the network, and no value is imputed.",
        "split": f"By patient within each hospital, by a seeded hash: {split.test:.0%} test, "
        f"{split.val:.0%} validate. No patient or image is on two sides.",
        "outcome": f"{target.learned}; read from {target.reads}.",
        "predictors": f"Images: {', '.join(plan.data.source.modalities)}.",
        "preparation": _prepared(plan.data.prepare),
        "imbalance": "Balanced metrics stand beside shares; class weights only where the loss "
        f"says so (loss: {target.loss or 'the default'})."
        if hasattr(target, "loss")
        else "",
    }


def _prepared(prepare: Any) -> str:
    size = f"voxels of {prepare.spacing_mm:g} mm, " if prepare.spacing_mm else ""
    shape = " x ".join(map(str, prepare.shape))
    return f"{prepare.dimension}, {size}shape {shape}, intensities by {prepare.scaling}."


def _of_model(plan: Any, simulation: Any) -> dict[str, str]:
    strategy, model = STRATEGIES.as_dict(plan.strategy), MODELS.as_dict(plan.model)
    train, rounds = plan.train, plan.rounds
    protocol = PROTOCOLS.as_dict(PROTOCOLS.made(simulation.protocol))
    return {
        "use": plan.release.intended_use or "Research use only. Not a medical device.",
        "aims": f"Development and evaluation; protocol {protocol}.",
        "model": f"Network {model}, federated by {strategy}.",
        "training": f"{rounds.n_rounds} rounds, {train.optimizer}, rate {train.lr:g}, batches of "
        f"{train.batch_size}, {simulation.n_seeds} training seeds.",
        "start": f"A file with SHA-256 {plan.start.sha256}."
        if plan.start.sha256
        else f"Seeded weights, seed {plan.seed}.",
        "choice": f"{CHOICE[rounds.select]}; test patients had no say.",
        "prediction": f"{plan.target.activation}.",
        "updates": "None: the model that was tested is the one in the bundle.",
    }


def _between_hospitals(summary: Summary) -> str:
    row = summary.rows[0]
    scores = ", ".join(
        f"{site_name(site)} {with_interval(found[summary.metric])}"
        for site, found in row.by_site.items()
        if summary.metric in found
    )
    fair = summary.fairness
    worst = "" if fair is None else f" Worst: {fair.worst_site} ({number(fair.worst)})."
    return f"{metric_name(summary.metric)} of {row.label} by hospital: {scores}.{worst}"
