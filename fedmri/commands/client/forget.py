"""The command by which a hospital lets a patient out who withdrew their consent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmri.commands.apps import HERE, AsJson, ClientDir, client_app
from fedmri.errors import UsageError

if TYPE_CHECKING:
    from fedmri.clients.consent.traces import Traces
    from fedmri.clients.process.home import ClientHome

NOT_UNDONE = (
    "What no command takes back: updates that left, models that others hold, lines of the "
    "ledgers, backups, logs, and pages that were drawn with --pictures."
)


@client_app.command("forget")
def forget(
    subject: Annotated[str, typer.Argument(help="The patient, as the data set calls them.")],
    folder: ClientDir = HERE,
    is_absent: Annotated[
        bool,
        typer.Option("--absent", help="Bar a patient whose data are no longer here, too."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bar a patient who withdrew consent from every later plan and round of this site.

    Removes the patient's prepared scans and results. Lists the runs and rounds that the patient was
    part of, without a name, for the coordinator. Your own data stay as they are.
    """
    from fedmri.clients.consent.traces import for_coordinator, names_of, traces
    from fedmri.clients.consent.withdrawn import Withdrawn
    from fedmri.clients.process.home import ClientHome
    from fedmri.clients.process.messages import tell_of_withdrawal

    home = ClientHome(folder)
    home.own_secret()
    withdrawn, names = Withdrawn.of(home), names_of(home, subject)
    found = traces(home, names)
    if not (found.files or is_absent or subject in withdrawn or _is_there(home, names)):
        fix = "write the name as manifest.tsv has it, or add --absent"
        want = "a patient of this site's data"
        raise UsageError("U32", f"patient {subject!r}", found="nobody", want=want, fix=fix)
    for name in sorted(names):
        withdrawn.add(name)
    found.remove()
    tell_of_withdrawal(home, withdrawn.version)
    said = for_coordinator(home.site, found.taken_part)
    if as_json:
        print(said)
        return
    _tell(found, said)


def _is_there(home: ClientHome, names: frozenset[str]) -> bool:
    """Tell whether the data, or the table of features, have such a patient."""
    from fedmri.clients.consent.withdrawn import plain_name
    from fedmri.data.read import read
    from fedmri.harmonize.combat.own_table import subjects_of

    config = home.config
    there = subjects_of(Path(config.features)) if config.features else set[str]()
    if config.data.path:
        unnamed = replace(config.data, patient_pattern="", key_column="")
        there |= {scan.subject for source in (unnamed, config.data) for scan in read(source).scans}
    return bool(names & {plain_name(one) for one in there})


def _tell(found: Traces, said: str) -> None:
    print("Barred: no later plan or round of this site has this patient in it.")
    print(f"Removed: {len(found.files)} prepared files, and results in {len(found.results)} runs.")
    for state in found.states:
        print(f"Depended on the patient and is not continued; delete it when you like: {state}")
    for one in found.taken_part:
        print(f"Was part of plan {one.plan[:12]}, run {one.run}: {one.n_rounds} rounds left here.")
    if found.taken_part:
        print(f"For the coordinator, without a name: {said}")
        print("Such a run can be repeated without the patient: submit its plan again.")
    print(NOT_UNDONE)
