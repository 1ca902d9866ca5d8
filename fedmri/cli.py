"""The commands: parse, load, call, report. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import io
import json
import logging
import os
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

import fedmri.commands.client.forget  # it registers commands
import fedmri.commands.client.setup  # it registers commands
import fedmri.commands.client.site  # it registers commands
import fedmri.commands.client.start  # it registers commands
import fedmri.commands.client.watch  # it registers commands
import fedmri.commands.server.runs  # it registers commands
import fedmri.commands.server.setup  # it registers commands
import fedmri.commands.server.view  # noqa: F401  # it registers commands
from fedmri.commands.apps import client_app, server_app
from fedmri.commands.argument_help import ArgumentHelp
from fedmri.commands.claims import lint_claims
from fedmri.commands.demo import demo
from fedmri.commands.examples import shown
from fedmri.commands.harmonize import harmonize
from fedmri.commands.model.agree import agree
from fedmri.commands.model.explain import explain
from fedmri.commands.model.export import export
from fedmri.commands.model.serve import serve
from fedmri.commands.model.trained import predict, score, show
from fedmri.commands.optional_folder import OptionalFolder
from fedmri.commands.plan import plan_app
from fedmri.commands.privacy.training import privacy_app
from fedmri.commands.server.runs import INTERRUPTED
from fedmri.commands.study import study as run_grid
from fedmri.commands.submission import bundle, compare, subgroups
from fedmri.errors import FedmriError, UsageError
from fedmri.machine.system_errors import as_usage_error

if TYPE_CHECKING:
    from fedmri.api.result import StudyResult
    from fedmri.api.study import Study

MADE = "No data set is named (--data PATH): this run trains on made patients."

app = typer.Typer(
    name="fedmri",
    cls=ArgumentHelp,
    help="Train one model on the MRI of many hospitals; only weight updates travel.",
    epilog=shown(""),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(
    cls=ArgumentHelp,
    help="Look at a data set before anything is trained on it.",
    no_args_is_help=True,
)
app.add_typer(data_app, name="data")
app.add_typer(server_app, name="server")
app.add_typer(client_app, name="client")
app.add_typer(privacy_app, name="privacy")
app.add_typer(plan_app, name="plan")
for command in (
    *(demo, harmonize, lint_claims, predict, explain, agree, score, show, export, serve),
    *(compare, subgroups, bundle),
):
    app.command()(command)
app.command("study")(run_grid)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Settings, such as model=densenet121 train.lr=1e-4 strategy=fedbn "
        "partition=dirichlet partition.alpha=0.3. --dry-run prints all of them.",
        show_default=False,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML file of settings; KEY=VALUE wins over it."),
]
DataPath = Annotated[
    Path | None,
    typer.Option("--data", help="Your data set: BIDS, site/class/*.png, or DICOM folders."),
]


def _print_version(is_asked: bool) -> None:  # typer's form of a callback
    if is_asked:
        print(f"fedmri {version('fedmri')}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """Hold the options of the program itself."""


@app.command()
def simulate(
    overrides: Overrides = None,
    sites: Annotated[
        int, typer.Option(help="Number of simulated hospitals; 0 takes all hospitals of the data.")
    ] = 0,
    data: DataPath = None,
    arms: Annotated[
        str,
        typer.Option(
            help="Kinds of training to compare: federated, local, pooled.", show_default=False
        ),
    ] = "",
    strategies: Annotated[
        str,
        typer.Option(
            help="Strategies to compare under one budget, such as fedavg,fedprox,cyclic.",
            show_default=False,
        ),
    ] = "",
    external: Annotated[
        Path | None,
        typer.Option(help="A data set that takes no part in training and is tested on."),
    ] = None,
    config: ConfigFile = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with an interrupted run folder, to the same bits."),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            help="Train a run folder's federation again; each round takes the same updates."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the settings, print them and do nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, for machines.")
    ] = False,
) -> None:
    """Train hospitals together on one machine, beside each alone and all pooled.

    Without data of your own, the command makes five hospitals from a brain atlas. Each has its own
    scanner, ages and lesions. It prints the result table and writes a report page.
    """
    from fedmri.api.study import Study

    if resume is not None:
        _refuse_beside("resume", overrides, sites, data, arms, strategies, external, config, replay)
        study = Study.resumed(resume)
    elif replay is not None:
        _refuse_beside("replay", overrides, sites, data, arms, strategies, external, config)
        study = Study.replayed(replay)
    else:
        names = [name.strip() for name in strategies.split(",") if name.strip()]
        given = _given(sites, data, arms, external)
        study = Study.from_settings([*given, *(overrides or [])], config, names)
    if dry_run:
        study.check()
        print(study.settings(), end="")
        return
    result = _simulate(study, is_json=as_json)
    if replay is not None:
        result.refuse_other_bits(replay)
        print(f"The weights are those of {replay}, bit for bit.", file=sys.stderr)


@data_app.command("check", cls=OptionalFolder)
def data_check(
    path: Annotated[Path, typer.Argument(help="BIDS, site/class/*.png, or DICOM folders.")],
    overrides: Overrides = None,
    config: ConfigFile = None,
    manifest: Annotated[
        Path, typer.Option(help="File for the list of left-out scans and the reasons.")
    ] = Path("manifest.tsv"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as JSON, for machines.")
    ] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="[DIR]",
            help="Draw each scan whose head is in doubt, into this folder (pictures). "
            "The pictures show patients and stay here.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Open every scan of a data set and say what is wrong with it.

    Finds unreadable, empty, misplaced and duplicate images, subjects at two sites, and CT among
    MRI. Finds heads that fill too much or too little of an image. With settings of the target
    (target.kind=… target.name=… target.classes=[…]) it also checks labels and masks. The exit
    status is 3 if training would be refused.
    """
    from rich.console import Console

    from fedmri.api.data import check_data
    from fedmri.simulation.preflight import as_json as json_of
    from fedmri.simulation.preflight import as_tables

    _log_to(None)
    found = check_data(path, settings=overrides or [], config=config, manifest=manifest)
    if as_json:
        print(json_of(found.scans))
    else:
        Console().print(as_tables(found.scans))
        for finding in found.scans.findings:
            if finding.code == "D67":
                print(f"Warning: {finding.reason}.")
        print(f"Who is left out and why: {manifest}")
    if pictures is not None:
        page, n_drawn = found.draw(pictures)
        print(f"Scans whose head is in doubt: {n_drawn}, drawn in {page}", file=sys.stderr)
    found.enforce()


@data_app.command("example")
def data_example(
    path: Annotated[Path, typer.Argument(help="Folder to make.")],
    sites: Annotated[int, typer.Option(help="Number of hospitals.")] = 5,
    subjects: Annotated[int, typer.Option(help="Mean number of subjects at a hospital.")] = 24,
    seed: Annotated[int, typer.Option(help="Another seed makes other subjects.")] = 0,
) -> None:
    """Write the embedded example data set, a BIDS folder, to look at or to train on."""
    from fedmri.api.example import example_data

    example_data(path, sites=sites, subjects=subjects, seed=seed)
    print(f"{path} holds {sites} hospitals. Try: fedmri simulate --data {shlex.quote(str(path))}")


@app.command()
def models() -> None:
    """List the networks that can be trained, with what each can do."""
    from fedmri.api.parts import list_models

    for name, kinds, multiple in list_models().itertuples(index=False):
        sides = f"; sides in multiples of {multiple}" if multiple > 1 else ""
        print(f"{name:<16} {', '.join(kinds)}{sides}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished simulation.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, for machines.")
    ] = False,
) -> None:
    """Write a run's report page again and print its result table."""
    from fedmri.api.result import StudyResult

    _report(StudyResult.open(run), is_json=as_json)


def _given(sites: int, data: Path | None, arms: str, external: Path | None) -> list[str]:
    """Return the options as settings."""
    given = []
    if data is not None:
        given.append(_quoted("data.source.path", data))
    if sites:
        given.append(f"partition.n_sites={sites}")
    if arms:
        given.append(f"simulation.arms=[{arms}]")
    if external is not None:
        given.append(_quoted("simulation.external", external))
    return given


def _quoted(key: str, path: Path) -> str:
    return f"{key}={json.dumps(str(path.absolute()), ensure_ascii=False)}"


def _refuse_beside(option: str, *options: object) -> None:
    if any(options):
        fix = "drop the other options: the settings are those in the run's folder"
        want = f"--{option} alone"
        found = "other options beside it"
        raise UsageError("U01", f"simulate --{option}", found=found, want=want, fix=fix)


def _simulate(study: Study, *, is_json: bool) -> StudyResult:
    begun = study.begun(_command())
    folder = begun.run_folder
    _log_to(folder / "log.txt")
    if not begun.experiment.plan.data.source.path:
        print(MADE, file=sys.stderr)
    try:
        result = begun.trained()
    except KeyboardInterrupt:
        quoted = shlex.quote(str(folder))
        print(f"Stopped. Go on with: fedmri simulate --resume {quoted}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if result.is_federation_there:
        _report(result, is_json=is_json)
    result.refuse_failed()
    return result


def _report(result: StudyResult, *, is_json: bool) -> None:
    from rich.console import Console

    from fedmri.commands.image_page import try_image_page
    from fedmri.reports.results import lost_by_choice
    from fedmri.reports.text.tables import as_json
    from fedmri.reports.text.terminal import show_summary

    summary = result.summary
    harmonized = try_image_page(result)
    if is_json:
        print(as_json(summary))
        return
    show_summary(summary, Console())
    for reason in lost_by_choice(result.folder):
        print(f"Warning: {reason}.")
    print(f"Report: {result.report}")
    if harmonized is not None:
        print(f"Before and after harmonization: {harmonized}")


def _command() -> str:
    return shlex.join(["fedmri", *sys.argv[1:]])


def _log_to(path: Path | None) -> None:
    """Send all logs to a file; a terminal is for results."""
    if path is None:
        logging.basicConfig(handlers=[logging.NullHandler()], force=True)
        return
    form = "%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"
    logging.basicConfig(filename=path, format=form, level=logging.INFO, force=True)
    logging.captureWarnings(capture=True)


def _keep_loopback_direct() -> None:
    """Let no proxy see what the processes of one machine say to each other."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        missing = [host for host in ("127.0.0.1", "localhost") if host not in hosts]
        os.environ[name] = ",".join([*hosts, *missing])


def main() -> None:
    """Run a command; a mistake of its user is one line and an exit status, a bug a traceback."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    _keep_loopback_direct()
    _speak_utf8()
    _print_whatever_it_is_called()
    try:
        app()
    except FedmriError as error:
        _end_with(error)
    except OSError as error:
        told = as_usage_error(error)
        if told is None:
            raise
        _end_with(told)


def _end_with(error: FedmriError) -> NoReturn:
    print(f"fedmri: {error}", file=sys.stderr)
    for note in getattr(error, "__notes__", []):
        print(f"  {note}", file=sys.stderr)
    sys.exit(error.exit_code)


def _speak_utf8() -> None:
    """Start again in Python's UTF-8 mode where the system's locale knows no umlaut (LC_ALL=C)."""
    is_told = os.environ.get("PYTHONUTF8") == "1"
    if sys.getfilesystemencoding() != "utf-8" and not is_told:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)  # this very command


def _print_whatever_it_is_called() -> None:
    """Let a terminal without UTF-8 show names as it can, rather than end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
