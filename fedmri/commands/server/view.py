"""Commands that show where a consortium stands; they read the server's files and change nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedmri.commands.apps import HERE, AsJson, ServerDir, server_app
from fedmri.errors import UsageError

if TYPE_CHECKING:
    from fedmri.server.registry.home import ServerHome

FOLLOW_S = 0.5

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")]
AnyRun = Annotated[str, typer.Argument(metavar="[RUN]", help="Name of a run.", show_default=False)]


@server_app.command()
def status(run: AnyRun = "", folder: ServerDir = HERE, as_json: AsJson = False) -> None:
    """Show a run, its round and its sites; without RUN, all sites and runs."""
    from fedmri.server.views.status import as_json as json_of
    from fedmri.server.views.status import read_run, read_server

    home = _home(folder)
    server = read_server(home)
    if as_json:
        _print_json(json_of(read_run(home, run) if run else server))
        return
    from rich.console import Console

    from fedmri.server.views.terminal import run_view, server_view

    view = run_view(read_run(home, run), server.time) if run else server_view(server)
    Console().print(view)


@server_app.command("list")
def list_runs(folder: ServerDir = HERE, as_json: AsJson = False) -> None:
    """List the runs, oldest first."""
    from fedmri.server.views.status import as_json as json_of
    from fedmri.server.views.status import read_server

    server = read_server(_home(folder))
    if as_json:
        _print_json({name: json_of(server)[name] for name in ("runs", "broken")})
        return
    from rich.console import Console

    from fedmri.server.views.terminal import run_list

    Console().print(run_list(server.runs))
    for reason in server.broken.values():
        print(reason)


@server_app.command()
def logs(
    run: RunName,
    folder: ServerDir = HERE,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run is over.")
    ] = False,
    tail: Annotated[int, typer.Option(min=0, help="Last lines only; 0 prints all.")] = 0,
) -> None:
    """Print the log of a run."""
    from fedmri.server.views.status import run_folder

    home = _home(folder)
    path = run_folder(home, run) / "log.txt"
    if not path.exists() and not follow:
        fix = "wait until the server has begun with it, or give --follow"
        raise UsageError("U42", f"log of run {run}", found="none", want="one", fix=fix)
    content = path.read_bytes() if path.exists() else b""
    lines = content.decode("utf-8", "replace").splitlines(keepends=True)
    _print_log("".join(lines[-tail:]))  # -0 is all
    if follow:
        try:
            for more in _growth(home, run, path, len(content)):
                _print_log(more)
        except KeyboardInterrupt:
            print()


@server_app.command()
def fetch(
    run: RunName,
    target: Annotated[Path, typer.Argument(metavar="DEST", help="Folder to make.")],
    folder: ServerDir = HERE,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Copy the existing files of a run that has no model yet."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy a run's model, records and plan to a folder, and write its report page there."""
    from fedmri.server.views.fetch import REPORT, fetch_run
    from fedmri.server.views.run_report import area_sentence, result_headline, result_json

    result = fetch_run(_home(folder), run, target, is_partial=partial)
    if as_json:
        _print_json(result_json(result))
        return
    print(result_headline(result))
    for name, area in result.areas.items():
        print(area_sentence(name, area))
    for note in result.notes:
        print(note)
    print(f"Report: {target / REPORT}")


@server_app.command()
def watch(
    run: AnyRun = "",
    folder: ServerDir = HERE,
    web: Annotated[
        bool, typer.Option("--web", help="Serve a read-only page for a browser instead.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address of the page. It is plain HTTP: keep it on loopback.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.")] = 0,
) -> None:
    """Show a running run: sites, round, progress, last seen, metrics. Ends with Ctrl-C."""
    home = _home(folder)
    try:
        if web:
            from fedmri.server.views.watch import serve

            serve(home, run, host, port)
        else:
            from rich.console import Console

            from fedmri.server.views.terminal import watch_terminal

            watch_terminal(home, run, Console())
    except KeyboardInterrupt:
        print()


def _home(folder: Path) -> ServerHome:
    """Return the server's folder; raise UsageError U21 where it is none."""
    from fedmri.server.registry.home import ServerHome

    home = ServerHome(folder)
    _ = home.config
    return home


def _growth(home: ServerHome, run: str, path: Path, n_bytes: int) -> Iterator[str]:
    """Yield what is added to a log after so many bytes, until the run is over."""
    from fedmri.server.views.status import read_run

    while True:
        is_over = read_run(home, run).is_over  # asked first: the last lines come after its end
        if path.exists():
            with path.open("rb") as file:
                if file.seek(0, 2) < n_bytes:  # a new file was begun
                    n_bytes = 0
                file.seek(n_bytes)
                added = file.read()
            n_bytes += len(added)
            yield added.decode("utf-8", "replace")
        if is_over:
            return
        wait()


def wait() -> None:
    """Let some time pass before a log is looked at again."""
    time.sleep(FOLLOW_S)


def _print_log(text: str) -> None:
    from fedmri.server.views.printable import printable

    print(printable(text), end="", flush=True)


def _print_json(values: Any) -> None:
    print(json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False))
