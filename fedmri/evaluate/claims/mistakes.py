"""Twenty mistakes of evaluation, as questions that a paper's methods answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fedmri.evaluate.claims.stated import Finding, unreadable


@dataclass(frozen=True)
class Mistake:
    """A question, the answers that are mistakes, and why.

    Attributes:
        number: In the list of the documentation.
        key: In the file of claims.
        bad: Answers that are a mistake.
        good: Answers that are none.
        text: What is wrong.
    """

    number: int
    key: str
    bad: tuple[str, ...]
    good: tuple[str, ...]
    text: str


YES, NO = ("yes", "true"), ("no", "false")
_PATIENTS = ("patient", "patients", "subject", "site")
MISTAKES = (
    Mistake(1, "split", ("slice", "image", "scan", "visit", "random"), _PATIENTS,
            "one patient's images lie on both sides of the split: noise alone then scores 100 %"),
    Mistake(2, "copies_removed", NO, YES, "copies of training images may be among the test images"),
    Mistake(3, "augmented", ("before_split",), ("after_split", "no", "false"),
            "images were augmented or synthesised before the split"),
    Mistake(4, "fitted_on", ("all",), ("train", "training"),
            "feature selection, harmonization or scaling was fitted on test patients too"),
    Mistake(5, "combat_keeps_target", YES, NO, "ComBat kept the target as a covariate"),
    Mistake(6, "chosen_on", ("test", "external"), ("validation", "train"),
            "model, threshold or round was chosen on the patients that it is scored on"),
    Mistake(7, "prevalence_said", NO, YES, "accuracy without the share of the larger class"),
    Mistake(8, "interval_over", ("slices", "images", "folds", "seeds"), ("patients", "hospitals"),
            "the interval counts slices, folds or seeds as if they were patients"),
    Mistake(9, "tuned", ("federated", "one_arm"), ("all", "none"),
            "one arm was tuned and the others were not"),
    Mistake(10, "validation_is_test", YES, NO, "validation patients are the test patients"),
    Mistake(11, "external_labels", ("different", "without_disease"), ("same",),
            "the external cohort has other labels, or lacks the disease"),
    Mistake(12, "auc_over", ("pooled",), ("within_sites", "both"),
            "one AUC over all sites gains from sites that differ in prevalence"),
    Mistake(13, "worst_site", ("alone",), ("beside_chance", "none"),
            "the worst site is named without what chance makes of equal sites"),
    Mistake(14, "ece", ("alone",), ("beside_null", "none"),
            "calibration error without its value for a perfect model on so few patients"),
    Mistake(15, "equal_by", ("p_value",), ("margin", "none"),
            "no significant difference is not equality: state a margin"),
    Mistake(16, "hd95", ("voxels", "empty_dropped"), ("mm", "none"),
            "HD95 is in voxels, or patients with an empty mask were dropped"),
    Mistake(17, "site_weights", ("unsaid",), ("patients", "equal", "none"),
            "a mean over sites without its weights"),
    Mistake(18, "stopped_on", ("clear_scores",), ("noised_scores", "validation", "fixed"),
            "training stopped by federated scores that left the sites without noise"),
    Mistake(19, "left_out_site", ("tuned",), ("untouched",),
            "settings were tuned with the site that was left out"),
    Mistake(20, "visits", ("apart",), ("together", "single"),
            "visits of one patient lie in two folds or at two sites"),
)  # fmt: skip
ESSENTIAL = ("split", "chosen_on", "interval_over", "fitted_on")
"""Without an answer to these, no number can be judged."""


def mistakes_in(methods: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the mistakes that a paper's methods admit, and what they do not say.

    Args:
        methods: Answers by key, such as ``{"split": "slice"}``.

    Raises:
        UsageError: A key or an answer is not known (U81).
    """
    known = {mistake.key: mistake for mistake in MISTAKES}
    for key, answer in methods.items():
        if key not in known:
            raise unreadable("methods", key, f"keys among {', '.join(known)}")
        mistake, said = known[key], answer.strip().lower()
        if said in mistake.bad:
            text = f"{key}: {answer}. Mistake {mistake.number}: {mistake.text}"
            yield Finding("", key, "flag", text)
        elif said not in mistake.good:
            want = ", ".join((*mistake.bad, *mistake.good))
            raise unreadable(f"methods.{key}", repr(answer), f"one of {want}")
    if unsaid := [key for key in ESSENTIAL if key not in methods]:
        yield Finding("", "unsaid", "note", f"the methods do not say: {', '.join(unsaid)}")
