"""What a site answered when a model was scored: one model for each round and split, once.

Whoever may have any weights scored, any number of times, can read patients out of the answers. So
the first model of a round is the only one; asked again with it, the site gives the same answer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from fedmri.errors import PrivacyError
from fedmri.files import append_line, whole_lines
from fedmri.wire import Scores


@dataclass(frozen=True)
class Asked:
    """What was to be scored.

    Attributes:
        split: ``val`` or ``test``.
        round_index: Last round behind the model.
        model: SHA-256 of everything that decides the answer; see ``order_digest``.
    """

    split: str
    round_index: int
    model: str


@dataclass(frozen=True)
class Scorings:
    """All scorings of a run at a site, on its disk.

    Attributes:
        path: File of them, a line each; made on first use, for its owner alone.
        most: Scorings that the site gives; 0 leaves it to the rounds of the plan.
    """

    path: Path
    most: int = 0

    def given(self, asked: Asked) -> Scores | None:
        """Return the answer that was given; None where this is the first question for its round.

        Raises:
            PrivacyError: Another model was scored for this round (P13), or the site has given all
                the scorings that it gives (P14).
        """
        there = {(line["split"], line["round_index"]): line for line in whole_lines(self.path)}
        line = there.get((asked.split, asked.round_index))
        if line is not None:
            if line["model"] != asked.model:
                raise _another(asked)
            return Scores(**line["scores"])
        if self.most and len(there) >= self.most:
            raise _used_up(len(there))
        return None

    def keep(self, asked: Asked, scores: Scores) -> None:
        """Write an answer down before it leaves; when this returns, it is on the disk."""
        append_line(self.path, {**asdict(asked), "scores": asdict(scores)})


def _another(asked: Asked) -> PrivacyError:
    what = f"scores on the {asked.split} patients after round {asked.round_index}"
    want = "the model that was scored for it before: a site scores one model a round"
    fix = "resume the run with the server's own checkpoints; if it was, ask the coordinator"
    return PrivacyError("P13", what, found="another model", want=want, fix=fix)


def _used_up(n_given: int) -> PrivacyError:
    fix = "ask for a plan with fewer scorings (rounds.evaluate_every), or raise policy.max_scorings"
    want = "no more, as this site's policy.max_scorings says"
    return PrivacyError("P14", "scorings", found=f"{n_given} that were given", want=want, fix=fix)
