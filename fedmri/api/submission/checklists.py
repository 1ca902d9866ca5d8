"""Reporting checklists, filled in from the records of a run as far as records know.

Items are named in words of our own. The numbers are those of the published lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Item = tuple[str, str, str]
"""Number in the list, what is asked, and the record that answers; ``""`` where there is none."""

TRIPOD_AI = "TRIPOD+AI (Collins et al. 2024, doi:10.1136/bmj-2023-078378)"
CLAIM = "CLAIM 2024 (Tejani et al. 2024, doi:10.1148/ryai.240300)"

TRIPOD_AI_ITEMS: Sequence[Item] = (
    ("1", "Title names the kind of study, the population and the outcome", ""),
    ("2", "Abstract by the list for abstracts", ""),
    ("3a", "Healthcare context and reason", ""),
    ("3b", "Who is meant to use the model, and where in care", "use"),
    ("3c", "Known inequalities between groups", ""),
    ("4", "Aims: development, evaluation or both", "aims"),
    ("5a", "Sources of the data", "data"),
    ("5b", "Dates of the data", ""),
    ("6a", "Setting: number and place of hospitals", "sites"),
    ("6b", "Who was eligible", ""),
    ("6c", "Treatments", ""),
    ("7", "How data were prepared and checked", "preparation"),
    ("8a", "Outcome and how it was assessed", "outcome"),
    ("8b", "Who assessed the outcome, and their training", ""),
    ("8c", "Blinding of that assessment", ""),
    ("9a", "Which predictors, and why", "predictors"),
    ("9b", "How predictors were measured", "preparation"),
    ("9c", "Who interpreted predictors", ""),
    ("10", "Sample size and its reason", "patients"),
    ("11", "Missing data", "missing"),
    ("12a", "How data were divided for development and evaluation", "split"),
    ("12b", "How predictors were handled in the model", "preparation"),
    ("12c", "Type of model and how it was built and tuned", "model"),
    ("12d", "Differences between hospitals", "heterogeneity"),
    ("12e", "Measures of performance", "measures"),
    ("12f", "Updates after evaluation", "updates"),
    ("12g", "How predictions are computed", "prediction"),
    ("13", "Imbalance of classes", "imbalance"),
    ("14", "Fairness", "heterogeneity"),
    ("15", "Form of the output and thresholds", "prediction"),
    ("16", "Differences between development and evaluation data", "elsewhere"),
    ("17", "Ethics approval and consent", ""),
    ("18a", "Funding", ""),
    ("18b", "Conflicts of interest", ""),
    ("18c", "Protocol of the study", "plan"),
    ("18d", "Registration", ""),
    ("18e", "Whether data can be had", ""),
    ("18f", "Whether code can be had", "software"),
    ("19", "How patients and public were involved", ""),
    ("20a", "Flow of participants", "patients"),
    ("20b", "Characteristics of participants", ""),
    ("20c", "Comparison of development and evaluation data", "elsewhere"),
    ("21", "Patients and events in each analysis", "patients"),
    ("22", "The model in full, so that others can use it", "files"),
    ("23a", "Performance with intervals", "performance"),
    ("23b", "Heterogeneity of performance between hospitals", "heterogeneity"),
    ("24", "Results of updates", "updates"),
    ("25", "Interpretation", ""),
    ("26", "Limits of the study", "limits"),
    ("27a", "Poor or missing inputs in use", "missing"),
    ("27b", "What users must do and know", "use"),
    ("27c", "Next steps", ""),
)

CLAIM_ITEMS: Sequence[Item] = (
    ("1", "Title or abstract names the AI method", ""),
    ("2", "Structured abstract", ""),
    ("3", "Background and intended role of the model", "use"),
    ("4", "Aims and hypotheses", ""),
    ("5", "Prospective or retrospective", ""),
    ("6", "Goal of the study", "aims"),
    ("7", "Sources of data", "data"),
    ("8", "Who was included and left out", ""),
    ("9", "Preparation of data", "preparation"),
    ("10", "Parts of data that were chosen", "predictors"),
    ("11", "How data were made anonymous", ""),
    ("12", "Missing data", "missing"),
    ("13", "Protocols of image acquisition", ""),
    ("14", "Definition of the reference standard", "outcome"),
    ("15", "Reason for this reference standard", ""),
    ("16", "Source of the reference annotations", ""),
    ("17", "Annotation of the test set", ""),
    ("18", "Agreement between annotators", ""),
    ("19", "How data were assigned to parts", "split"),
    ("20", "Level at which parts are disjoint", "split"),
    ("21", "Size of the test set", "patients"),
    ("22", "The model: inputs, outputs, layers", "model"),
    ("23", "Software and versions", "software"),
    ("24", "Initial weights", "start"),
    ("25", "Training: data, hyperparameters, number of models", "training"),
    ("26", "How the final model was chosen", "choice"),
    ("27", "Ensembling", "arms"),
    ("28", "Metrics", "measures"),
    ("29", "Statistical uncertainty", "uncertainty"),
    ("30", "Robustness or sensitivity", "heterogeneity"),
    ("31", "Explanations of the model", ""),
    ("32", "Evaluation on internal data", "performance"),
    ("33", "Testing on external data", "elsewhere"),
    ("34", "Registration of a clinical trial", ""),
    ("35", "Numbers of patients used and left out", "patients"),
    ("36", "Demographics of each part", ""),
    ("37", "Performance on the test data", "performance"),
    ("38", "Precision of the estimates", "uncertainty"),
    ("39", "Failures", "missing"),
    ("40", "Limits of the study", "limits"),
    ("41", "What it means for practice", ""),
    ("42", "Protocol and further materials", "plan"),
    ("43", "Whether software and model can be had", "files"),
    ("44", "Funding", ""),
)


def checklist(title: str, items: Sequence[Item], known: Mapping[str, str]) -> str:
    """Return a checklist as Markdown: each item with its answer, or named as open."""
    open_items = [number for number, _, record in items if not known.get(record)]
    lines = [
        f"# {title}",
        "",
        f"{len(items) - len(open_items)} of {len(items)} items are filled in from records. "
        f"Open, for only the authors know: {', '.join(open_items)}.",
        "",
        "| item | asked | answer |",
        "| --- | --- | --- |",
    ]
    for number, asked, record in items:
        answer = known.get(record) or "**OPEN: to be said by the authors**"
        lines.append(f"| {number} | {asked} | {' '.join(answer.replace('|', '/').split())} |")
    return "\n".join([*lines, ""])
