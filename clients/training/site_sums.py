"""A site's half of what stages fit by sums over sites, in clear or under masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fedmri.clients.egress.digests import update_digest
from fedmri.clients.egress.scorings import Asked, Scorings
from fedmri.clients.training.protection.secure import SecureSite, masked_form, sum_forms
from fedmri.clients.training.site_view import SiteView
from fedmri.errors import RoundError
from fedmri.harmonize.sums import Arrays, SumStage, version
from fedmri.round import Form, Weights
from fedmri.secagg.ring import Slot
from fedmri.secagg.updates import empty_beside, update_slots, with_beside
from fedmri.secagg.wide import wide_slots
from fedmri.stages.chain import update_forms
from fedmri.stages.stage import AtSite, Stage, When
from fedmri.wire import SecureAnswer, SecureStep, Sums, SumsOrder, TrainOrder, as_arrays

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class SiteSums:
    """What a site answers to orders for sums.

    Attributes:
        view: The site, as stages see it.
        secure: Its part in secure sums.
        scorings: Which models it summed embeddings of.
    """

    view: SiteView
    secure: SecureSite
    scorings: Scorings

    def answer(self, order: SumsOrder) -> Sums:
        """Return this site's part of the sums of a step, over training scans or rows alone.

        Where the run ends with what was fitted, the order after the last step brings it: the site
        uses it at home and answers nothing.

        Raises:
            RoundError: The plan has no such step (R11).
        """
        order = self.view.known(order)
        at, stage, fit = self._asked(order)
        n_examples, n_subjects = stage.counts(at)
        arrays: Weights = {}
        if order.step == fit.n_steps:
            stage.take_out(at, as_arrays(order.shared))
        elif self.view.plan.secagg.is_on:
            shapes = _shapes(fit, order)
            own = lambda: self._own(order, at, stage)  # noqa: E731  # not where it was answered
            arrays = self.secure.sums(order, shapes, own, self.view.guard.sketch)
        else:
            own_sums = self._own(order, at, stage)
            arrays = {name: torch.from_numpy(values) for name, values in own_sums.items()}
        return Sums(self.view.name, arrays, n_subjects, n_examples)

    def forms(self, order: SumsOrder) -> dict[str, Form]:
        """Return the arrays that an answer to an order for sums has."""
        _, _, fit = self._asked(self.view.known(order))
        if order.step == fit.n_steps:
            return {}
        return sum_forms(_shapes(fit, order), is_masked=self.view.plan.secagg.is_on)

    def secure_step(self, order: SecureStep) -> SecureAnswer:
        """Return this site's answer to a step of a secure sum besides the values."""
        sums = None if order.sums is None else self.view.known(order.sums)
        slots = self.slots(sums, order.round_index)
        counts = self.view.counts
        if sums is not None:
            at, stage, _ = self._asked(sums)
            counts = stage.counts(at)
        n_examples, n_subjects = counts
        arrays = self.secure.answer(order, slots)
        return SecureAnswer(self.view.name, arrays, n_subjects, n_examples)

    def slots(self, sums: SumsOrder | None, round_index: int) -> dict[str, Slot]:
        """Return what a secure sum is over: the sums of a step, or the updates of a round."""
        if sums is not None:
            return wide_slots(_shapes(self._asked(sums)[2], sums))
        plan, made = self.view.plan, self.view.network.made
        shared = made.shared(made.entries, round_index)
        forms = plan.strategy.extra_forms(shared, self.view.layout)
        entries = with_beside(as_arrays(shared), empty_beside(forms))
        return update_slots(entries, plan.secagg.fraction_bits)

    def update_forms(self, order: TrainOrder) -> dict[str, Form]:
        """Return the entries of the model that an answer to an order to train has."""
        if self.view.plan.secagg.is_on:
            return masked_form(self.slots(None, order.round_index))
        return update_forms(self.view.plan, order.weights)

    def _own(self, order: SumsOrder, at: AtSite, stage: Stage) -> Arrays:
        if order.weights:
            shown = update_digest(order.weights, {**order.extra, "shared": order.shared})
            split = f"sums over embeddings, step {order.stage}.{order.step},"
            self.scorings.refuse_models(Asked(split, order.round_index, shown))
        own = stage.own_sums(at, order.step, as_arrays(order.shared))
        if stage.when is When.AFTER_TEST:
            # of one model alone: who had many tested could read a patient's score out of the sums
            what = f"sums over test patients, step {order.stage}.{order.step},"
            self.scorings.refuse_models(Asked(what, 0, version(own)), most=1)
        return own

    def _asked(self, order: SumsOrder) -> tuple[AtSite, Stage, SumStage[Any]]:
        """Return the site as the order's stage sees it, the stage, and what it fits."""
        stages, number = self.view.plan.stages, order.stage
        stage = stages[number] if number < len(stages) else Stage()
        at = self.view.summing(order, stage)
        fit = stage.fit(at.made)
        n_steps = 0 if fit is None else fit.n_steps + stage.is_handed_out
        if fit is None or order.step not in range(n_steps):
            fix = "run the same version of fedmri as the server"
            found, want = f"step {order.step} of stage {number}", "a step of the plan's stages"
            raise RoundError("R11", "order for sums", found=found, want=want, fix=fix)
        return at, stage, fit


def _shapes(fit: SumStage[Any], order: SumsOrder) -> Shapes:
    arrays = fit.site_sums(order.step, (), as_arrays(order.shared))
    return {name: values.shape for name, values in arrays.items()}
