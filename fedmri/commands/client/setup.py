"""Commands that make a site ready: its folder, its enrolment, its doctor."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from fedmri.commands.apps import HERE, AsJson, ClientDir, client_app

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@client_app.command("init")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make; missing or empty.")],
    data: Annotated[Path, typer.Option(help="Folder of the scans: BIDS, images or DICOM.")],
    layout: Annotated[str, typer.Option(help="auto, bids, images or dicom.")] = "auto",
    site_column: Annotated[
        str, typer.Option(help="Column of the subject table that names the site.")
    ] = "site",
    device: Annotated[
        str, typer.Option(help="Where to train, such as cuda:0; empty leaves it to the plan.")
    ] = "",
) -> None:
    """Make a site's folder: a key pair whose private half never leaves it, and settings."""
    from pydantic import TypeAdapter

    from fedmri.agreement.consortium import key_fingerprint
    from fedmri.clients.process.enrolment import make_home
    from fedmri.data.settings import SourceConfig
    from fedmri.errors import require

    layouts = ("auto", "bids", "images", "dicom")
    require(layout in layouts, "layout", layout, f"one of {', '.join(layouts)}")
    values = {"path": str(data), "layout": layout, "site_column": site_column}
    source = TypeAdapter(SourceConfig).validate_python(values)
    home = make_home(folder, source, device)
    public = home.public_key.read_text(encoding="ascii").strip()
    print(f"{home.folder} is ready; read {home.settings_file} and set the site's limits.")
    print(f"Send the coordinator {home.public_key}, which is no secret:")
    print(f"  {public}")
    print(f"and tell them its fingerprint by telephone: {key_fingerprint(public)}")
    print("Then, with the file that comes back:")
    print(f"  fedmri client join ENROLMENT.json --dir {shlex.quote(str(folder))}")


@client_app.command("join")
def join(
    enrolment: Annotated[Path, typer.Argument(help="The file that the coordinator sent.")],
    folder: ClientDir = HERE,
) -> None:
    """Take in the coordinator's enrolment file: the server's address, and how to know it."""
    from fedmri.clients.process.enrolment import join as join_consortium
    from fedmri.clients.process.home import ClientHome

    done = join_consortium(ClientHome(folder), enrolment)
    consortium = done.consortium
    print(f"This is site {consortium.site}, and it will dial {consortium.address}.")
    if not done.is_update:
        print("Compare by telephone with the coordinator: the consortium's fingerprint is")
        print(f"  {consortium.fingerprint}")
    print(f"Next: fedmri client doctor --dir {shlex.quote(str(folder))}")


@client_app.command("doctor")
def doctor(
    folder: ClientDir = HERE,
    mailbox: Annotated[
        Path | None,
        typer.Option(help="Shared folder of sealed letters: check it instead of the network."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check everything that the client needs: network, certificates, clock, disk, GPU, data.

    The exit status is 6 if the client cannot work.
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fedmri.clients.process.doctor import examine, refuse_failed
    from fedmri.clients.process.home import ClientHome

    findings = examine(ClientHome(folder), mailbox)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        table = Table(box=None, show_header=False, padding=(0, 1))
        for finding in findings:
            level = f"[{COLOURS[finding.level]}]{finding.level}[/]"
            table.add_row(level, finding.name, escape(finding.found))
            if finding.fix:
                table.add_row("", "", escape(f"→ {finding.fix}"))
        Console().print(table)
    refuse_failed(findings)
