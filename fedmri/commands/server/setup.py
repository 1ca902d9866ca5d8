"""Commands that make a server ready: its folder, its certificates, its sites."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from fedmri.commands.apps import HERE, AsJson, ServerDir, server_app
from fedmri.errors import UsageError, told

SOON_DAYS = 30


@server_app.command("init")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make; missing or empty.")],
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            help="DNS name or IP address of this server; may be given several times. Sites dial "
            "the first.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port that sites dial.")] = 9443,
) -> None:
    """Make a server's folder: authority, certificate, key that signs plans, settings."""
    from fedmri.server.registry.authority import days_left
    from fedmri.server.registry.enrolment import make_home

    names = name or _asked_names()
    home = make_home(folder, names, port)
    print(f"{home.folder} is ready. Sites will dial {home.config.address}.")
    print(f"The certificate lasts {days_left(home).server} days; `fedmri server renew` renews it.")
    print("Keep a backup of the folder where nobody else can read it: sites trust its keys.")
    print(
        f"Next: fedmri server enroll NAME KEY.pub --max-patients N --dir {shlex.quote(str(folder))}"
    )


@server_app.command("enroll")
def enroll(
    name: Annotated[str, typer.Argument(help="Name of the site, such as hospital-a.")],
    key: Annotated[Path, typer.Argument(help="The site's keys/site.pub.")],
    folder: ServerDir = HERE,
    max_examples: Annotated[
        int,
        typer.Option(
            help="Most examples of a round that the site declares: slices in 2D, scans in 3D. "
            "0: not declared."
        ),
    ] = 0,
    max_patients: Annotated[
        int | None,
        typer.Option(
            help="Patients that the site declares: its weight in the mean is bounded by them. "
            "0: not declared."
        ),
    ] = None,
) -> None:
    """Enrol a site by its own public key, and write its enrolment file."""
    if max_patients is None and not max_examples:
        # without it one site that claims enough examples would own the mean of all
        fix = f"ask the site, then: fedmri server enroll {name} {key} --max-patients N"
        what, want = "server enroll", "--max-patients (0: this site's weight has no bound)"
        raise UsageError("U01", what, found="no number of patients", want=want, fix=fix)
    from fedmri.agreement.consortium import key_fingerprint
    from fedmri.server.registry.enrolment import enroll as enroll_site
    from fedmri.server.registry.home import ServerHome

    home = ServerHome(folder)
    consortium = enroll_site(home, name, _text_of(key), max_examples, max_patients or 0)
    print(f"Site {name} is enrolled with the key {key_fingerprint(consortium.public_key)}.")
    print(f"Send it {home.enrolments / name}.json; the file holds no secret.")
    print("Compare by telephone: the key above, and the consortium's fingerprint")
    print(f"  {consortium.fingerprint}")


@server_app.command("limit")
def limit(
    name: Annotated[str, typer.Argument(help="Name of an enrolled site.")],
    folder: ServerDir = HERE,
    max_patients: Annotated[
        int | None, typer.Option(help="Patients that the site declares now; 0: not declared.")
    ] = None,
    max_examples: Annotated[
        int | None,
        typer.Option(
            help="Examples of a round that it declares now: slices in 2D, scans in 3D. "
            "0: not declared."
        ),
    ] = None,
) -> None:
    """Change the declared numbers of a site; a running run uses them from the next update on."""
    from fedmri.server.registry.enrolment import limit as limit_site
    from fedmri.server.registry.home import ServerHome

    if max_patients is None and max_examples is None:
        found, fix = "neither", f"fedmri server limit {name} --max-patients N"
        want = "--max-patients or --max-examples"
        raise UsageError("U01", "server limit", found=found, want=want, fix=fix)
    site = limit_site(ServerHome(folder), name, max_examples, max_patients)
    patients, examples = (n or "no limit" for n in (site.max_subjects, site.max_examples))
    print(f"Site {name} now declares: patients {patients}, examples of a round {examples}.")


@server_app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="Name of the site.")], folder: ServerDir = HERE
) -> None:
    """Shut a site out for good; a running server does so within seconds."""
    from fedmri.server.registry.enrolment import revoke as revoke_site
    from fedmri.server.registry.home import ServerHome

    revoke_site(ServerHome(folder), name)
    print(f"Site {name} is revoked. To come back it needs a new name and a new key.")


@server_app.command("sites")
def sites(folder: ServerDir = HERE, as_json: AsJson = False) -> None:
    """List the enrolled sites with their keys' fingerprints."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from fedmri.agreement.consortium import key_fingerprint
    from fedmri.server.registry.home import ServerHome

    home = ServerHome(folder)
    _ = home.config  # a folder that is not a server's is said so
    enrolled = home.sites().values()
    if as_json:
        print(json.dumps([asdict(site) for site in enrolled]))
        return
    table = Table("site", "", "enrolled", "patients", "most examples")
    table.add_column("key", overflow="fold")
    for site in enrolled:
        most = [str(n or "not declared") for n in (site.max_subjects, site.max_examples)]
        state = "revoked" if site.is_revoked else ""
        table.add_row(site.name, state, site.enrolled, *most, key_fingerprint(site.public_key))
    Console().print(table)


@server_app.command("renew")
def renew(
    folder: ServerDir = HERE,
    is_key_new: Annotated[
        bool, typer.Option("--new-key", help="Make another key for the server as well.")
    ] = False,
    is_check: Annotated[
        bool, typer.Option("--check", help="Say how many days are left, and do nothing.")
    ] = False,
) -> None:
    """Renew the server's certificate for a year, for the names in server.yaml.

    The sites trust the authority that signs it, so they need nothing new. If the first name or the
    port has changed, send the sites their new enrolment files.
    """
    from fedmri.server.registry.authority import days_left
    from fedmri.server.registry.authority import renew as renew_certificate
    from fedmri.server.registry.enrolment import write_enrolments
    from fedmri.server.registry.home import ServerHome

    home = ServerHome(folder)
    config = home.config
    if not is_check:
        renew_certificate(home, config.names, is_key_new=is_key_new)
        write_enrolments(home)
    left = days_left(home)
    print(f"Certificate for {', '.join(config.names)}: {left.server} days left.")
    print(f"Authority: {left.authority} days left.")
    if is_check and left.server < SOON_DAYS:
        print("Renew it now: fedmri server renew")
    if not is_check:
        print("Start the server again to use it.")


def _asked_names() -> list[str]:
    import socket

    question = "DNS names and IP addresses of this server, the one that sites dial first"
    answer: str = typer.prompt(question, default=socket.getfqdn())
    return answer.replace(",", " ").split()


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        fix = "name the file keys/site.pub that the site sent"
        found = told(error)
        raise UsageError("U22", f"key {path}", found=found, want="a text", fix=fix) from error
