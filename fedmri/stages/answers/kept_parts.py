"""Which parts of a predicted mask are kept: one rule for all, chosen on validation patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claims
from fedmri.errors import HarmonizeError, require
from fedmri.harmonize.sums import Arrays
from fedmri.stages.on_answers import SUMS_OF_ANSWERS, OnAnswers, no_fit
from fedmri.stages.stage import AtSite, Made, When
from fedmri.tasks.task import Parted, Task

if TYPE_CHECKING:
    from fedmri.harmonize.rule_scores import RuleScores
    from fedmri.plan import Plan


@dataclass(frozen=True)
class KeptParts(OnAnswers):
    """Small parts of a mask are left out where that helps the hospitals' validation patients.

    After the last round each hospital scores the model under six rules: all parts are kept, those
    from 0.01, 0.1, 0.3 or 1 ml on, or the largest alone. The rule with the best mean Dice over all
    hospitals then holds in tests and predictions. Test patients have no say, and neither has a
    hospital with fewer validation patients than its own floor.
    """

    when: ClassVar[When] = When.AFTER_ROUNDS
    claims: ClassVar[Claims] = SUMS_OF_ANSWERS
    source: ClassVar[str] = "Isensee et al. 2021, nnU-Net, doi:10.1038/s41592-020-01008-z"
    consent: ClassVar[str] = "number of validation patients, and sum of their Dice under six rules"

    def refuse(self, plan: Plan) -> None:
        """Refuse a target without masks, or a split without validation patients (C03, C01)."""
        parted(plan.target)
        require(plan.data.split.val > 0, "split.val", plan.data.split.val, "above 0 for kept_parts")

    def fit(self, made: Made) -> RuleScores:
        """Return the sums of scores."""
        from fedmri.harmonize.rule_scores import RuleScores
        from fedmri.tasks.cleaning import RULES

        return RuleScores(len(RULES))

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return the sums over this site's validation patients."""
        from fedmri.training.computing.device import reproducible
        from fedmri.training.evaluation import evaluate

        assert at.network is not None, "rules are judged under a model"
        fit = self.fit(at.made)
        if not self._has_enough(at):
            return fit.site_sums(step, (), shared)
        train = at.plan.train
        with reproducible(train.n_threads):
            task = parted(at.learned).trying()
            found = evaluate(at.network, at.data, "val", task, train, wanted=at.plan.data)
        rows = [list(case.scores.values()) for case in found.cases]
        return fit.site_sums(step, rows, shared)

    def counts(self, at: AtSite) -> tuple[int, int]:
        """Return the validation examples and patients; those of training where it sums nobody."""
        if not self._has_enough(at):
            return super().counts(at)
        return len(at.data.examples("val")), _n_subjects(at)

    def _has_enough(self, at: AtSite) -> bool:
        """Whether a site's floor lets sums over its validation patients leave; else it says 0."""
        return _n_subjects(at) >= at.account.n_least

    def refuse_fitted(self, made: Made, fitted: Arrays) -> None:
        """Refuse parameters that name no rule (H21)."""
        from fedmri.harmonize.rule_scores import RULE, SCORES

        n_rules = self.fit(made).n_rules
        found = {name: values.shape for name, values in fitted.items()}
        is_sound = found == {RULE: (1,), SCORES: (n_rules,)}
        if not is_sound or fitted[RULE][0] not in range(n_rules):
            fix = "run the same version of fedmri as the server"
            what, want = "parameters of kept_parts", f"one of {n_rules} rules, with their scores"
            raise HarmonizeError("H21", what, found=f"{found}", want=want, fix=fix)

    def task(self, task: Task, fitted: Arrays) -> Task:
        """Return the task under the rule that was chosen."""
        from fedmri.harmonize.rule_scores import RULE

        return parted(task).under_rule(int(fitted[RULE][0]))


def _n_subjects(at: AtSite) -> int:
    return len({(one.site, one.subject) for one in at.data.examples("val")})


def parted(task: Task) -> Parted:
    """Return a task whose masks have parts, or refuse it (C03)."""
    if isinstance(task, Parted):
        return task
    raise no_fit("kept_parts", task, "a segmentation, whose masks have parts")
