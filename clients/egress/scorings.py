"""What a site told of its patients besides updates: scores, and codes of errors that data decide.

Whoever may have any weights scored, any number of times, can read patients out of the answers. So
the first model of a round is the only one; asked again with it, the site gives the same answer. An
error that the data decide, such as a loss that is not finite, tells a bit of them and counts, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedmri.errors import FedmriError, PrivacyError
from fedmri.machine.files import append_line, whole_lines
from fedmri.wire import Scores


@dataclass(frozen=True)
class Asked:
    """What was to be scored.

    Attributes:
        split: ``val`` or ``test``; else what the model is for.
        round_index: Last round behind the model.
        model: SHA-256 of everything that decides the answer; see ``order_digest``.
    """

    split: str
    round_index: int
    model: str


TELLING = frozenset({"R04", "R20", "R21", "R41", "P55", "P63", "P64"})
"""Codes of errors that follow from the data under the weights of an order."""

MOST_MODELS = 5
"""Models that a site trains in one round, or sums embeddings of in one step. An honest server has
one, and another where it lost a round and trained it anew with other sites."""


@dataclass(frozen=True)
class Scorings:
    """All scorings of a run at a site, and the codes that told of its data, on its disk.

    Attributes:
        path: File of them, a line each; made on first use, for its owner alone.
        most: Scorings and codes that the site gives; 0 leaves it to the rounds of the plan.
        most_models: Models that it trains in a round or sums embeddings of; 0 sets no bound.
    """

    path: Path
    most: int = 0
    most_models: int = 0

    @property
    def is_bounded(self) -> bool:
        """Whether anything but scores is counted: in a simulation nobody is to be protected."""
        return bool(self.most or self.most_models)

    def given(self, asked: Asked) -> Scores | None:
        """Return the answer that was given; None where this is the first question for its round.

        Raises:
            PrivacyError: Another model was scored for this round (P13), or the site has given all
                the scorings that it gives (P14).
        """
        for line in self._before(asked):
            if line["model"] != asked.model:
                raise _another(asked)
            return Scores(**line["scores"])
        self._refuse_more()
        return None

    def refuse_models(self, asked: Asked, most: int | None = None) -> None:
        """Let a round be trained from few models, and sums over embeddings be of few.

        Args:
            asked: What was asked.
            most: Models; None takes the site's ``most_models``.

        Raises:
            PrivacyError: This would be one more (P13).
        """
        if not self.most_models:
            return
        known = {line["model"] for line in self._before(asked)}
        if asked.model not in known:
            if len(known) >= (self.most_models if most is None else most):
                raise _another(asked)
            append_line(self.path, asdict(asked))

    @contextmanager
    def counting(self, order: str) -> Iterator[None]:
        """Write down the code of an error in the block that tells of the data, before it leaves.

        Args:
            order: Digest of the order: the same code for the same order tells nothing more.

        Raises:
            PrivacyError: The site has told all that it tells (P14).
        """
        known = [line for line in self._lines if line.get("order") == order]
        if not known:
            self._refuse_more()
        try:
            yield
        except FedmriError as error:
            line = {"order": order, "code": error.code}
            if error.code in TELLING and line not in known:
                append_line(self.path, line)
            raise

    def _before(self, asked: Asked) -> list[dict[str, Any]]:
        place = asked.split, asked.round_index
        lines = self._lines
        return [line for line in lines if (line.get("split"), line.get("round_index")) == place]

    @property
    def _lines(self) -> list[dict[str, Any]]:
        return list(whole_lines(self.path))

    def _refuse_more(self) -> None:
        n_given = sum("scores" in line or "code" in line for line in self._lines)
        if self.most and n_given >= self.most:
            raise _used_up(n_given)

    def keep(self, asked: Asked, scores: Scores) -> None:
        """Write an answer down before it leaves; when this returns, it is on the disk."""
        append_line(self.path, {**asdict(asked), "scores": asdict(scores)})


def _another(asked: Asked) -> PrivacyError:
    what = f"model for {asked.split} after round {asked.round_index}"
    want = "the same model: a site answers for one a round, or a few if the server lost it"
    fix = "resume the run with the server's own checkpoints, or ask the coordinator"
    return PrivacyError("P13", what, found="another model", want=want, fix=fix)


def _used_up(n_given: int) -> PrivacyError:
    fix = "ask for a plan with fewer scorings (rounds.evaluate_every), or raise policy.max_scorings"
    want = "no more, as this site's policy.max_scorings says"
    return PrivacyError(
        "P14", "scorings and codes", found=f"{n_given} that were given", want=want, fix=fix
    )
