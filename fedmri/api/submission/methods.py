"""What a run's own records say of its methods, as the linter of claims asks for it."""

from __future__ import annotations

from fedmri.plan import Plan
from fedmri.reports.results import COPIES, EXTERNAL, TRIALS, Results
from fedmri.reports.summary import Summary


def methods_of(results: Results, summary: Summary, plan: Plan) -> dict[str, str]:
    """Return the answers to ``methods`` of a file of claims.

    What fedmri never does otherwise is said as it is. All else is read from the records.
    """
    metrics = {name for row in summary.rows for name in row.overall}
    kept = {(one.code, one.site) for one in results.findings if not one.is_excluded}
    codes = {code for code, _ in kept}
    lacks_class = any(code == "D23" and site.startswith(EXTERNAL) for code, site in kept)
    return {
        "split": "patient",
        "copies_removed": "no" if codes & {*COPIES} else "yes",
        "augmented": "after_split",
        "fitted_on": "train",
        "chosen_on": "validation",
        "prevalence_said": "yes",  # the model that looks at no image stands in the table
        "interval_over": "patients",
        "tuned": "all" if (results.run / TRIALS).exists() else "none",
        "validation_is_test": "no",
        "worst_site": "beside_chance",
        "ece": "beside_null" if summary.calibrations else "none",
        "equal_by": "none",
        "hd95": "mm" if "hd95_mm" in metrics else "none",
        "site_weights": "patients",
        "stopped_on": _stopped_on(plan),
        "left_out_site": "untouched",
        "visits": "apart" if "C14" in codes else "together",
        **({"auc_over": "both"} if "auc" in metrics else {}),
        **(
            {"external_labels": "without_disease" if lacks_class else "same"}
            if summary.external_sites
            else {}
        ),
    }


def _stopped_on(plan: Plan) -> str:
    if plan.rounds.select == "last":
        return "fixed"
    return "clear_scores" if plan.privacy.is_on else "validation"
