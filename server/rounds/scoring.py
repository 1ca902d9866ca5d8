"""The scores of a run: validation patients between rounds, test patients at the end."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import MessageType

from fedmri.errors import RoundError
from fedmri.round import Weights
from fedmri.server.registry.nodes import present
from fedmri.server.rounds.checkpoint import load_weights_file, save_weights
from fedmri.server.rounds.exchange import Answer
from fedmri.server.rounds.fitting import Fitting
from fedmri.server.rounds.run import Running
from fedmri.wire import SCORES, EvaluateOrder, Scores, content_of, read_answer

log = logging.getLogger("fedmri.server")


@dataclass(frozen=True)
class Scoring:
    """Asks sites to score a model, and keeps the best where the plan selects it."""

    running: Running
    fitting: Fitting

    def is_due(self, round_index: int) -> bool:
        """Tell whether validation patients are scored after a round."""
        every = self.running.plan.rounds.evaluate_every
        return bool(every) and round_index % every == 0

    def validate(self, round_index: int, model: Weights) -> float:
        """Return the primary metric's mean over validation patients."""
        extra = self.fitting.beside_scoring(round_index, model)
        members, shared = self.running.free(), self.running.made.shared(model, round_index)
        beside = {**extra, **self.running.first.beside(members)}
        order = EvaluateOrder(round_index, "val", shared, extra=beside)
        return self._evaluated("validation", order, members)

    def is_best(self, mean: float, notes: dict[str, Any]) -> bool:
        """Tell whether a mean is better than any before, where the best model is selected."""
        best = notes.get("best")
        sign = 1 if self.running.plan.target.is_higher_better else -1
        is_better = best is None or sign * mean > sign * best
        return self.running.plan.rounds.select == "best" and is_better and math.isfinite(mean)

    def keep(self, round_index: int, model: Weights) -> None:
        """Write the best model so far."""
        save_weights(self._best_path, model, {"round": round_index})

    def selected(self, model: Weights, notes: dict[str, Any]) -> tuple[Weights, int]:
        """Return the final model and its round: the last, or the best by the plan."""
        rounds = self.running.plan.rounds
        if rounds.select == "best" and "best_round" in notes:
            return load_weights_file(self._best_path)[0], notes["best_round"]
        return model, rounds.n_rounds

    def test(self, round_index: int, model: Weights, extra: dict[str, Weights]) -> None:
        """Score the final model on test patients."""
        run = self.running.run
        shared = self.running.made.shared(model, round_index)
        tested = run.tested or tuple(present(self.running.grid))
        beside = {**extra, **self.running.first.beside(tested)}
        order = EvaluateOrder(round_index, "test", shared, run.n_pictures, beside)
        self._evaluated("test", order, tested)

    def _evaluated(self, kind: str, order: EvaluateOrder, names: Sequence[str]) -> float:
        """Record every site's scores; return the primary metric's mean over patients."""
        total, n_total, records = 0.0, 0, self.running.records
        content = content_of(order)
        for answer in self.running.exchanges.ask(MessageType.EVALUATE, content, names):
            code, scores = _scores_of(answer)
            if scores is None:
                log.warning("site %s gave no %s scores: %s", answer.site, kind, code)
                records.add(kind, round=order.round_index, site=answer.site, status=code)
                continue
            fields = {"metrics": dict(scores.metrics), "n_subjects": scores.n_subjects}
            records.add(kind, round=order.round_index, site=answer.site, status="ok", **fields)
            value = scores.metrics.get(self.running.plan.target.primary, math.nan)
            if scores.n_subjects and math.isfinite(value):
                total, n_total = total + scores.n_subjects * value, n_total + scores.n_subjects
        return total / n_total if n_total else math.nan

    @property
    def _best_path(self) -> Path:
        return self.running.run.folder / "best.safetensors"


def _scores_of(answer: Answer) -> tuple[str, Scores | None]:
    """Return a site's scores, or the code of why there are none."""
    if answer.content is None:
        return answer.code, None
    try:
        return "ok", read_answer(SCORES, answer.site, answer.content)
    except RoundError as error:
        log.warning("%s", error)
        return error.code, None
