"""Commands that serve, and that submit and end runs."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmri.commands.apps import HERE, ServerDir, server_app
from fedmri.commands.logs import log_to
from fedmri.errors import UsageError

if TYPE_CHECKING:
    from fedmri.agreement.signed_plan import SignedPlan
    from fedmri.server.registry.home import EnrolledSite, ServerHome
    from fedmri.server.runs import Post, RunFolder

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
STOP_S, POLL_S = 30.0, 0.2
"""Longest wait for the end of a run: its process has seconds to end."""

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Settings, as KEY=VALUE. They win over the file."
    ),
]


@server_app.callback(invoke_without_command=True)
def server(context: typer.Context, folder: ServerDir = HERE) -> None:
    """Coordinate a consortium of hospitals; without a command, serve."""
    if context.invoked_subcommand is None:
        start(folder)


@server_app.command()
def start(folder: ServerDir = HERE) -> None:
    """Serve the sites until Ctrl-C or SIGTERM; runs go on where they were."""
    from fedmri.server.registry.home import ServerHome
    from fedmri.server.service import serve

    home = ServerHome(folder)
    config = home.config
    log_to(home.logs / "server.log")
    stop = stop_event()
    print(f"Serving {config.address} from {home.folder}. Ctrl-C ends it.", flush=True)
    serve(home, stop)


@server_app.command()
def run(
    plan: Annotated[
        Path | None, typer.Argument(help="YAML of the experiment, as for `fedmri simulate -c`.")
    ] = None,
    overrides: Overrides = None,
    folder: ServerDir = HERE,
    name: Annotated[
        str, typer.Option(help="Name of the run. Without it, the name of the plan.")
    ] = "",
    sites: Annotated[
        str, typer.Option(help="Sites that train, as a,b,c. Without it, all sites that are online.")
    ] = "",
    resume: Annotated[
        str, typer.Option(help="Go on with a failed or stopped run, to the same bits.")
    ] = "",
    weights: Annotated[
        Path | None,
        typer.Option(help="File of weights to start from; the plan gets its hash, sites no file."),
    ] = None,
    mailbox: Annotated[
        Path | None,
        typer.Option(help="Run it here by sealed files in this shared folder; opens no port."),
    ] = None,
    mailed: Annotated[
        str,
        typer.Option(help="Sites that alone use the mailbox, as a,b,c. All others dial in."),
    ] = "",
) -> None:
    """Sign a plan and submit it; the running server takes it up.

    With --mailbox the run goes on in this process until its end. Its sites are named by --sites.
    With --mailbox and --mailed, the running server takes it up and sends letters to these sites.
    """
    from fedmri.compatibility import plan_advice
    from fedmri.server.registry.home import ServerHome
    from fedmri.server.runs import new_run, run_named

    home = ServerHome(folder)
    _refuse_unclear(plan, resume)
    if plan is None:
        found = run_named(home.runs, resume)
        if not found.note.is_served:
            _run_by_mailbox(home, found, _there(mailbox or Path(found.note.mailbox)))
            return
        wait_stopped(home, found)
        if mailbox is not None:  # it lies elsewhere now
            _there(mailbox)
            found.change(mailbox=str(mailbox.absolute()))
        found.queue_again()
        print(f"Run {resume} goes on from its last checkpoint. See: fedmri server status {resume}")
        return
    members = _members(home.sites(), sites)
    post = _post(mailbox, members, mailed)
    signed = _signed(home, plan, overrides or [], members, weights)
    submitted = new_run(home.runs, signed, name, members or sorted(signed.sites), weights, post)
    print(f"Run {submitted.name} is submitted; its plan is {signed.sha256[:12]}.")
    print("Sites that have not approved it do so by: fedmri client approve " + signed.sha256[:12])
    for text in plan_advice(signed.plan):
        print(text)
    if mailbox is not None and not submitted.note.is_served:
        _run_by_mailbox(home, submitted, mailbox)


def _run_by_mailbox(home: ServerHome, run: RunFolder, mailbox: Path) -> None:
    from fedmri.server.mailbox.serving import run_by_mailbox

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a machine that shuts down
    print(f"Orders and answers travel by {mailbox}. Ctrl-C stops the run.", flush=True)
    try:
        print(f"Run {run.name} is finished: {run_by_mailbox(home, run, mailbox)}.")
    except KeyboardInterrupt:
        print(f"Run {run.name} is stopped. Go on: fedmri server run --resume {run.name}")
        raise typer.Exit(INTERRUPTED) from None


@server_app.command()
def stop(
    name: Annotated[str, typer.Argument(help="Name of the run.")], folder: ServerDir = HERE
) -> None:
    """End a run; `fedmri server run --resume NAME` goes on with it."""
    from fedmri.server.registry.home import ServerHome
    from fedmri.server.runs import OVER, run_named

    home = ServerHome(folder)
    found = run_named(home.runs, name)
    status = found.note.status
    if status in OVER:
        want, fix = "one that is not over", "see `fedmri server list`"
        raise UsageError("U53", f"run {name}", found=status, want=want, fix=fix)
    found.ask_to_stop()
    wait_stopped(home, found)
    is_over = found.note.status in OVER
    print(f"Run {name} is stopped." if is_over else f"Run {name} is being ended.")
    print(f"Go on with it: fedmri server run --resume {name}")


def wait_stopped(home: ServerHome, run: RunFolder) -> None:
    """Wait until a run that was asked to stop is over; without its process it is so at once."""
    from fedmri.server.registry.presence import read_presence
    from fedmri.server.runs import OVER

    def has_process() -> bool:
        is_there = read_presence(home).is_server_running
        return is_there if run.note.is_served else run.has_own_process

    deadline = time.monotonic() + STOP_S
    while run.is_stop_asked and run.note.status not in OVER and time.monotonic() < deadline:
        if not has_process():
            run.change(status="stopped", message="stopped by the coordinator")
            return
        time.sleep(POLL_S)


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and Ctrl-C set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _refuse_unclear(plan: Path | None, resume: str) -> None:
    if (plan is None) == (not resume):
        found = "both" if resume else "neither"
        fix = "fedmri server run PLAN.yaml, or fedmri server run --resume NAME"
        raise UsageError("U01", "server run", found=found, want="PLAN or --resume NAME", fix=fix)


def _signed(
    home: ServerHome,
    plan: Path,
    overrides: list[str],
    members: list[str],
    weights: Path | None,
) -> SignedPlan:
    from fedmri.assembly import assemble, settled
    from fedmri.config import load
    from fedmri.machine.cache import arithmetic_file
    from fedmri.models.pretrained import begin
    from fedmri.server.registry.enrolment import sign_for

    more = [] if weights is None else [f"simulation.weights='{weights}'"]
    loaded = load([*overrides, *more], plan).plan
    made = assemble(loaded).checked()  # what cannot do the task is refused before anybody waits
    fit = begin(made.network, loaded.start.sha256, weights, loaded.n_channels, loaded.kind)
    if fit is not None:
        print(f"The model starts from {weights}: {fit.summary}.")
    chosen = settled(loaded, arithmetic_file())
    if chosen.train != loaded.train:
        train = chosen.train
        print(f"The fastest here: precision {train.precision}, memory {train.memory_format}.")
    return sign_for(home, chosen, members)


def _members(enrolled: Mapping[str, EnrolledSite], text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    there = [name for name, site in enrolled.items() if not site.is_revoked]
    foreign = [name for name in names if name not in there]
    if foreign:
        want = f"some of {', '.join(there) or 'none, for nobody is enrolled'}"
        fix = "enroll them first: fedmri server enroll NAME KEY.pub --max-patients N"
        raise UsageError("U54", "sites of the run", found=", ".join(foreign), want=want, fix=fix)
    return names


def _post(mailbox: Path | None, members: list[str], mailed: str) -> Post:
    """Return how letters travel, and to which of the sites of the run."""
    from fedmri.server.runs import NO_POST, Post

    names = tuple(name.strip() for name in mailed.split(",") if name.strip())
    if mailbox is None:
        if names:
            fix = "name the folder by --mailbox"
            raise UsageError("U01", "--mailed", found="no --mailbox", want="a folder", fix=fix)
        return NO_POST
    if not members:
        fix = "name them, as in --sites hospital-a,hospital-b: nobody is seen online"
        raise UsageError("U01", "server run --mailbox", found="no --sites", want="sites", fix=fix)
    foreign = [name for name in names if name not in members]
    if foreign:
        found, want = ", ".join(foreign), f"some of {', '.join(members)}"
        fix = "name them by --sites, too"
        raise UsageError("U54", "sites that get letters", found=found, want=want, fix=fix)
    return Post(str(_there(mailbox).absolute()), names)


def _there(mailbox: Path) -> Path:
    """Return a mailbox that is there and can be written: a mistyped one would be silent for ever.

    Raises:
        UsageError: It is no folder (U01).
        OSError: It cannot be written.
    """
    if not mailbox.is_dir():
        what, fix = f"mailbox {mailbox}", "mount it, make it, or name another folder"
        raise UsageError("U01", what, found="no folder", want="a folder", fix=fix)
    with tempfile.TemporaryFile(dir=mailbox):
        return mailbox
