"""The runs of a coordinator: one folder each, whose files are all that is known of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fedmri.agreement.consortium import SITE_NAME
from fedmri.agreement.signed_plan import SignedPlan
from fedmri.errors import UsageError
from fedmri.machine.clock import utc
from fedmri.machine.files import is_held, write_whole

Status = Literal["queued", "running", "finished", "failed", "stopped", "interrupted"]
WEIGHTS = "start-weights"
"""Stem of the file of weights in a run's folder; its ending says what it is."""
OVER: tuple[Status, ...] = ("finished", "failed", "stopped")
LOCK = "mailbox.lock"
"""In the folder of a run by letters alone: its process holds it."""


@dataclass(frozen=True)
class RunNote:
    """What is known of a run besides its records.

    Attributes:
        status: Where it stands; ``interrupted`` goes on by itself when the server is back.
        message: What ended it, where something did.
        submitted: When it was submitted, UTC.
        members: Sites that train; empty until the first round, if none were named.
        attempts: Starts since the last new checkpoint.
        flwr_run: Number that Flower knows it by.
        mailbox: Folder that its orders and answers travel by; empty for sites that dial in.
        mailed: Sites that are asked by letters, where others dial in; empty takes all for a run
            with a mailbox. Such a run has a process of its own, and the server leaves it alone.
    """

    status: Status = "queued"
    message: str = ""
    submitted: str = ""
    members: tuple[str, ...] = ()
    attempts: int = 0
    flwr_run: int = 0
    mailbox: str = ""
    mailed: tuple[str, ...] = ()

    @property
    def is_served(self) -> bool:
        """Whether the server takes it up: some of its sites dial in."""
        return bool(self.mailed) or not self.mailbox


@dataclass(frozen=True)
class Post:
    """How letters of a run travel; see ``RunNote``."""

    mailbox: str = ""
    mailed: tuple[str, ...] = ()


NO_POST = Post()


class RunFolder:
    """A run on the coordinator's disk.

    Args:
        path: ``runs/NAME``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name

    @property
    def signed(self) -> SignedPlan:
        """The plan as the coordinator signed it."""
        return SignedPlan.from_json((self.path / "signed.json").read_bytes())

    @property
    def note(self) -> RunNote:
        """What is known of the run."""
        values: dict[str, Any] = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        lists = {name: tuple(values.get(name, ())) for name in ("members", "mailed")}
        return RunNote(**values | lists)

    def change(self, **fields: Any) -> RunNote:
        """Change the note, whole or not at all, and return it."""
        note = replace(self.note, **fields)
        write_json(self.path / "run.json", asdict(note))
        return note

    @property
    def is_stop_asked(self) -> bool:
        """Whether somebody asked for its end."""
        return (self.path / "stop").exists()

    def ask_to_stop(self) -> None:
        """Ask the server to end the run after what it is doing."""
        (self.path / "stop").touch()

    @property
    def has_own_process(self) -> bool:
        """Whether a process works on it by letters alone, without the server."""
        try:
            return is_held(self.path / LOCK)
        except OSError:
            return False

    @property
    def weights(self) -> Path | None:
        """The file of weights that the run starts from, if it has one."""
        return next(self.path.glob(f"{WEIGHTS}*"), None)

    def bound_answers(self, n_bytes: int) -> None:
        """Write down the most bytes that an answer to an order of the run may have."""
        write_json(self.path / "answer.json", {"bytes": n_bytes})

    @property
    def answer_bytes(self) -> int:
        """The most bytes that an answer may have; 0 before the first order."""
        path = self.path / "answer.json"
        return int(json.loads(path.read_text(encoding="utf-8"))["bytes"]) if path.exists() else 0

    def queue_again(self) -> RunNote:
        """Let the server go on with the run, from its last checkpoint.

        Raises:
            UsageError: The run is finished, or is already under way (U50).
        """
        status = self.note.status
        if status not in ("failed", "stopped", "interrupted"):
            fix = "start another run of the plan under another name"
            want = "a failed, stopped or interrupted run"
            raise UsageError("U50", f"run {self.name}", found=status, want=want, fix=fix)
        (self.path / "stop").unlink(missing_ok=True)
        return self.change(status="queued", message="", attempts=0)

    @property
    def n_checkpointed(self) -> int:
        """Rounds that the newest checkpoint holds."""
        names = [path.name for path in (self.path / "checkpoints").glob("round-*")]
        return max((int(name.split("-")[1].split(".")[0]) for name in names), default=0)


def new_run(  # noqa: PLR0913  # what a run is made of
    runs: Path,
    signed: SignedPlan,
    name: str,
    members: Sequence[str],
    weights: Path | None = None,
    post: Post = NO_POST,
) -> RunFolder:
    """Write the folder of a run, queued.

    Args:
        runs: Folder of all runs.
        signed: The signed plan.
        name: Name of the run; empty takes the plan's, with a number where that is taken.
        members: Sites that train; empty takes those that are there when it starts.
        weights: File of weights that the plan starts from; the folder gets a copy.
        post: How its letters travel; without it, all sites dial in.

    Raises:
        UsageError: The name is taken, or cannot name a folder (U51).
    """
    path = _free(runs, name, signed.plan.name)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    (part / "signed.json").write_text(signed.to_json(), encoding="utf-8")
    note = RunNote(submitted=utc(), members=tuple(sorted(members)), **asdict(post))
    write_json(part / "run.json", asdict(note))
    if weights is not None:
        shutil.copyfile(weights, part / f"{WEIGHTS}{weights.suffix}")
    part.rename(path)
    return RunFolder(path)


def run_named(runs: Path, name: str) -> RunFolder:
    """Return a run by its name.

    Raises:
        UsageError: There is none of that name (U52).
    """
    found = {run.name: run for run in all_runs(runs)}  # a name is looked up, never made a path
    if name not in found:
        there, fix = ", ".join(found) or "none", "see `fedmri server list`"
        raise UsageError("U52", f"run {name!r}", found=f"runs {there}", want="one of them", fix=fix)
    return found[name]


def all_runs(runs: Path) -> list[RunFolder]:
    """Return all runs, in order of submission."""
    folders = [RunFolder(path.parent) for path in runs.glob("[!.]*/run.json")]
    return sorted(folders, key=lambda run: (run.note.submitted, run.name))


def write_json(path: Path, values: Any) -> None:
    """Write JSON, whole or not at all."""
    write_whole(path, json.dumps(values, indent=1) + "\n")


def _free(runs: Path, name: str, plan_name: str) -> Path:
    if not SITE_NAME.fullmatch(name or plan_name):
        want, fix = "letters, digits, - and _", "choose another by --name"
        raise UsageError("U51", "run", found=repr(name or plan_name), want=want, fix=fix)
    if name:
        if (runs / name).exists():
            fix = "choose another --name, or go on with it by --resume"
            raise UsageError("U51", f"run {name!r}", found="one already", want="none", fix=fix)
        return runs / name
    for number in range(1, 10_000):
        path = runs / (plan_name if number == 1 else f"{plan_name}-{number}")
        if not path.exists():
            return path
    raise UsageError("U51", "run", found=f"10,000 of {plan_name}", want="fewer", fix="give --name")
