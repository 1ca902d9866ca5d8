"""Commands by which a site looks at plans, consents to them, and sees what left it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fedmri.commands.apps import HERE, AsJson, ClientDir, client_app


@client_app.command("check")
def check(
    plan: Annotated[
        Path, typer.Argument(exists=True, help="PLAN.yaml, or the signed plan as JSON.")
    ],
    folder: ClientDir = HERE,
    as_json: AsJson = False,
) -> None:
    """Check this site's data and limits against a plan, before taking part in anything.

    Opens every scan and lists the left-out scans with reasons. The exit status is 3 if the data
    cannot be trained on. It is 5 if the plan goes beyond the limits of site.yaml.
    """
    from rich.console import Console

    from fedmri.clients.consent.approval import plain, refuse_violations
    from fedmri.clients.consent.policy import violations
    from fedmri.clients.consent.withdrawn import Withdrawn
    from fedmri.clients.process.home import ClientHome
    from fedmri.clients.training.own_data import checked_own, n_subjects
    from fedmri.commands.client.plan_file import plan_of
    from fedmri.data.checks.check import enforce
    from fedmri.simulation.preflight import as_json as json_of
    from fedmri.simulation.preflight import as_tables

    home = ClientHome(folder)
    config, wanted = home.config, plan_of(home, plan)
    manifest = home.folder / "manifest.tsv"
    table = checked_own(config, wanted, home.site, manifest, Withdrawn.of(home))
    counts = n_subjects(table, wanted)
    found = violations(config.policy, wanted, counts["train"])
    if as_json:
        print(json.dumps({**json.loads(json_of(table)), "subjects": counts, "violations": found}))
    else:
        Console().print(as_tables(table))
        print("Subjects:", ", ".join(f"{n} {split}" for split, n in counts.items()))
        print(f"Who is left out and why: {manifest}")
        for text in found:
            print(f"Beyond the limits of this site: {plain(text)}")
    enforce(table, config.check)
    refuse_violations(config.policy, wanted, counts["train"])


@client_app.command("plans")
def plans(folder: ClientDir = HERE, as_json: AsJson = False) -> None:
    """List the plans that the server has sent, and this site's answer to each."""
    from fedmri.clients.consent.approval import N_SHOWN, seen_plans, status_of
    from fedmri.clients.process.home import ClientHome

    home = ClientHome(folder)
    rows = [(signed.sha256, status_of(home, signed)) for signed in seen_plans(home)]
    if as_json:
        print(json.dumps([{"plan": plan, "status": status} for plan, status in rows]))
        return
    for plan, status in rows:
        print(f"{plan[:N_SHOWN]}  {status}")
    if not rows:
        print("The server has sent no plan yet.")


@client_app.command("approve")
def approve(
    plan: Annotated[str, typer.Argument(help="First digits of the plan's content hash.")],
    folder: ClientDir = HERE,
    yes: Annotated[bool, typer.Option("--yes", help="Approve without asking.")] = False,
) -> None:
    """Show a plan, ask, and record that this site approves exactly this plan."""
    from fedmri.clients.consent import approval
    from fedmri.clients.consent.plan_text import describe
    from fedmri.clients.process.home import ClientHome

    home = ClientHome(folder)
    signed = approval.seen_plan(home, plan)
    signed.verify(home.consortium.coordinator)
    policy = home.config.policy
    print(describe(signed, policy, approval.changed_keys(home, signed)))
    approval.refuse_violations(policy, signed.plan)
    if not yes and not typer.confirm("Approve this plan for this site?"):
        print("Not approved.")
        raise typer.Exit(1)
    done = approval.approve_as_person(home, signed)
    print(f"Approved {done.time} by {done.who}. The next round that the server asks for is run.")


@client_app.command("withdraw")
def withdraw(
    plan: Annotated[str, typer.Argument(help="First digits of the plan's content hash.")],
    folder: ClientDir = HERE,
) -> None:
    """Withdraw the approval of a plan: from the next order on, this site refuses it."""
    from fedmri.clients.consent import approval
    from fedmri.clients.process.home import ClientHome

    home = ClientHome(folder)
    signed = approval.seen_plan(home, plan)
    approval.withdraw(home, signed)
    print(f"Withdrawn. This site refuses plan {signed.sha256[: approval.N_SHOWN]} from now on.")
    print("What it sent before is in the models of others: no command takes that back.")


@client_app.command("refuse")
def refuse(
    run: Annotated[str, typer.Argument(help="Name of the run, as `fedmri client watch` shows it.")],
    reason: Annotated[str, typer.Option(help="Why, in a sentence without patients' data.")],
    folder: ClientDir = HERE,
) -> None:
    """Refuse a run: the server does not ask this site for it any more.

    The refusal lasts until `fedmri client approve` takes it back. The coordinator reads the reason
    if policy.is_reason_told of site.yaml is true.
    """
    from fedmri.clients.consent.refusal import refuse_run
    from fedmri.clients.process.home import ClientHome

    home = ClientHome(folder)
    is_told = home.config.policy.is_reason_told
    refusal = refuse_run(home, run, reason)
    print(f"Refused. This site takes no part in run {run} from its next order on.")
    print("The coordinator sees the reason." if is_told else "The reason stays at this site.")
    print(f"To take it back: fedmri client approve {refusal.plan[:12]}")


@client_app.command("status")
def status(folder: ClientDir = HERE, as_json: AsJson = False) -> None:
    """Show the state of this site: client, server, last order, refused orders."""
    from fedmri.clients.consent.approval import seen_plans, status_of
    from fedmri.clients.mailbox.looks import client_text, looks
    from fedmri.clients.process import standing
    from fedmri.clients.process.home import ClientHome

    home = ClientHome(folder)
    pid, told = standing.client_pid(home), standing.noted(home, standing.TOLD)
    mail = looks(home)
    waiting = [one.sha256 for one in seen_plans(home) if "waits" in status_of(home, one)]
    said = {
        "site": home.consortium.site,
        "address": home.consortium.address,
        "is_running": pid is not None,
        "mailbox": asdict(mail) if mail is not None else None,
        "standing": standing.ask_standing(home),
        "order": standing.noted(home, standing.ORDER),
        "left_out": told,
        "plans_waiting": waiting,
    }
    if as_json:
        print(json.dumps(said))
        return
    print(f"Site {said['site']} of the consortium at {said['address']}.")
    process = f" It is process {pid}." if pid is not None else ""
    print(f"{client_text(mail, is_running=pid is not None)}{process}")
    for line in _status_lines(said):
        print(line)


def _status_lines(said: dict[str, Any]) -> Iterator[str]:
    from fedmri.clients.consent.approval import N_SHOWN, plain
    from fedmri.clients.process.standing import SAID, of_update, outcome

    yield SAID[said["standing"]]
    order, told = said["order"], said["left_out"]
    if order:
        came = outcome(str(order.get("code", "")), is_running=said["is_running"])
        where = f"to {order.get('kind')} in run {order.get('run')}"
        yield plain(f"Last order: {where}, {came}, {order.get('time')}.")
    if told:
        yield plain(of_update(told))
    for plan in said["plans_waiting"]:
        yield f"A plan waits for approval: fedmri client approve {plan[:N_SHOWN]}"


@client_app.command("ledger")
def ledger(
    folder: ClientDir = HERE,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Check the chain; the exit status is 5 if it is broken."),
    ] = False,
    tail: Annotated[int, typer.Option(help="Last entries to show; 0 shows all.", min=0)] = 20,
    as_json: AsJson = False,
) -> None:
    """Show what left this site: time, plan, round, kind, bytes and digest of each message."""
    from fedmri.clients.egress import ledger as egress
    from fedmri.clients.process.home import ClientHome

    path = ClientHome(folder).ledger
    if verify:
        chain = egress.verify(path)
        torn = f", and {len(chain.torn)} bytes of a write that was cut off" if chain.torn else ""
        said = asdict(chain) | {"torn": len(chain.torn)}
        text = f"{chain.n_entries} entries, an unbroken chain up to {chain.sha256}{torn}"
        print(json.dumps(said) if as_json else text)
        return
    shown = list(egress.entries(path))[-tail:]
    if as_json:
        print(json.dumps(shown))
        return
    for entry in shown:
        print(_line_of(entry))
    if not shown:
        print("Nothing has left this site.")


@client_app.command("renew-account")
def renew_account(folder: ClientDir = HERE) -> None:
    """Begin a new privacy ledger after one was changed, cut or lost. The spent epsilon stays."""
    from fedmri.clients.egress.privacy_ledger import PrivacyLedger
    from fedmri.clients.process.home import ClientHome

    home = ClientHome(folder)
    _ = home.config  # a folder that is not a site's is said so
    moved = PrivacyLedger(home.privacy_ledger, home.privacy_account).renew()
    print(f"The old ledger lies in {moved}." if moved else "There was no ledger any more.")
    print(f"{home.privacy_ledger} holds what was spent before, as entries that were carried over.")


def _line_of(entry: dict[str, Any]) -> str:
    from fedmri.clients.consent.approval import plain

    start = f"{entry['time'][:19]}Z  {entry['kind']:<6} {entry['n_bytes']:>12,} bytes"
    if "plan" not in entry:
        return f"{start}  a write that a power cut ended; its message did not leave"
    number = "-" if entry["round"] is None else entry["round"]
    where = f"plan {entry['plan'][:12]} run {entry['run']} round {number}"
    return plain(f"{start}  {where}  {entry['sha256'][:12]}  {'; '.join(entry['what'])}")
