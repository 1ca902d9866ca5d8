"""What the tables of a BIDS data set say of a subject and of each of its sessions.

``participants.tsv`` has a row for each subject, or with a column ``session_id`` for each session.
``sub-*/sub-*_sessions.tsv`` has a row for each session of one subject. A session's own value
beats its subject's, an empty one too: the age at the first visit is not that at the second.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedmri.data.bids.tables import Row, SubjectTable, read_table, rows_by
from fedmri.data.scans import Finding, Scan
from fedmri.data.settings import SourceConfig
from fedmri.errors import ConfigError, DataError
from fedmri.machine.delimited import blurred, is_unknown, tidied

SESSION_COLUMNS = ("session_id", "session", "ses")
KEY = "participant_id"
TABLE_NAME = re.compile(r"(participants?|subjects?|patients?)\.(tsv|csv|txt|xlsx?|ods)", re.I)
DEFAULT_SITE_COLUMN = SourceConfig().site_column


@dataclass(frozen=True)
class SubjectRows:
    """Rows of a subject table.

    Attributes:
        columns: Its columns.
        whole: Rows that are for all sessions, by subject label.
        visits: Rows that are for one session, by subject and session label.
        findings: What was odd about the table.
    """

    columns: tuple[str, ...]
    whole: Mapping[str, Row]
    visits: Mapping[tuple[str, str], Row] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def subjects(self) -> set[str]:
        """Labels of all subjects that have a row."""
        return {*self.whole, *(subject for subject, _ in self.visits)}

    def of(self, subject: str, session: str) -> Row | None:
        """Return what is known of a session; None where no row is about it."""
        own = self.visits.get((subject, session))
        rows = [row for (who, _), row in self.visits.items() if who == subject]
        if own is None and not session and len(rows) == 1:
            own = rows[0]  # the files do not name the only session
        whole = self.whole.get(subject)
        return None if whole is None and own is None else {**(whole or {}), **(own or {})}


def subject_rows(table: SubjectTable, sessions: Iterable[str] = ()) -> SubjectRows:
    """Index a table by subject, and by session where it has a column of them.

    Args:
        table: Has a column ``participant_id``, with or without ``sub-``.
        sessions: Session labels of the data set; a column called otherwise than ``session_id``
            holds sessions only where it names one of them.

    Returns:
        The rows. Of rows that contradict each other none is believed (D18), whether they call the
        subject ``sub-01`` or ``01``.
    """
    column = _session_column(table, {label_of(session, "ses-") for session in sessions})
    rows: list[Row] = []
    for row in table.rows:
        subject = label_of(row[KEY], "sub-")
        session = label_of(row[column], "ses-") if column else ""
        rows.append({**row, KEY: f"{subject} {session}".strip() if subject else ""})
    chosen, said = rows_by(replace(table, rows=tuple(rows)), KEY)
    findings = [_placed(finding) for finding in said]
    plain = {key: {**row, KEY: f"sub-{key.split(' ')[0]}"} for key, row in chosen.items()}
    whole = {key: row for key, row in plain.items() if " " not in key}
    visits = {(key.split(" ")[0], key.split(" ")[1]): r for key, r in plain.items() if " " in key}
    return SubjectRows(table.columns, whole, visits, (*table.findings, *findings))


def session_rows(folder: Path, subject: str) -> SubjectRows:
    """Read the table of a subject's sessions; empty where there is none, or none that can be used.

    Args:
        folder: The subject's folder.
        subject: Its label.
    """
    path = folder / f"sub-{subject}_sessions.tsv"
    if not path.exists() and not path.is_symlink():
        return SubjectRows((), {})
    try:
        table = read_table(path, "session_id")
    except DataError as error:
        return SubjectRows((), {}, {}, (Finding(error.code, str(error), subject=subject),))
    named = [{**row, "session_id": label_of(row["session_id"], "ses-")} for row in table.rows]
    rows, said = rows_by(replace(table, rows=tuple(named)), "session_id")
    findings = [replace(f, subject=subject, session=f.subject) for f in (*table.findings, *said)]
    visits = {(subject, session): row for session, row in rows.items()}
    return SubjectRows(table.columns, {}, visits, tuple(findings))


@dataclass(frozen=True)
class Tables:
    """All tables of a BIDS data set.

    Attributes:
        rows: Rows of ``participants.tsv``, or None where there is none.
        own: Each subject's own table of sessions, by its label.
        other: Name of a table in the root that is none by its name, or ``""``.
    """

    rows: SubjectRows | None
    own: Mapping[str, SubjectRows]
    other: str = ""

    @property
    def named(self) -> set[str]:
        """Labels of all subjects that have a folder."""
        return {*self.own}

    @property
    def subjects(self) -> set[str]:
        """Labels of all subjects of ``participants.tsv``."""
        return self.rows.subjects if self.rows else set()

    @property
    def columns(self) -> list[str]:
        """Columns of all tables, those of ``participants.tsv`` first."""
        tables = [*([self.rows] if self.rows else []), *self.own.values()]
        return list(dict.fromkeys(column for table in tables for column in table.columns))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was odd about ``participants.tsv``; a subject's own table is told by ``look``."""
        return self.rows.findings if self.rows else ()

    def refuse_wrong_column(self, config: SourceConfig) -> None:
        """Raise ConfigError C01 where no table has the column that is named as the sites'."""
        known = self.columns
        if config.site or config.site_column in {*known, DEFAULT_SITE_COLUMN}:
            return
        raise ConfigError(
            "C01",
            "setting data.source.site_column",
            found=repr(config.site_column),
            want=f"one of the columns {', '.join(known) or '(there is no table)'}",
            fix="name the column that holds the site, or set data.source.site",
        )

    def no_sites(self, config: SourceConfig) -> list[Finding]:
        """Warn where no table says the sites and no setting does."""
        known = self.columns
        if config.site or config.site_column in known:
            return []
        reason = "participants.tsv is missing: no site and no covariate is known"
        if self.other:
            reason += f". Save {self.other} as participants.tsv, with tabs between values"
        if known:
            reason = (
                f"participants.tsv has no column {config.site_column!r} but {', '.join(known)}: "
                "set data.source.site_column or data.source.site"
            )
        return [Finding("D06", reason, is_excluded=False)]

    def look(
        self, subject: str, session: str, config: SourceConfig
    ) -> tuple[str, Row, list[Finding]]:
        """Return site and row of a session, and findings; one excludes it where it must be."""
        row = {} if self.rows is None else self.rows.of(subject, session)
        if row is None:
            visit = f" session {session}" if session else ""
            reason = f"sub-{subject}{visit} has no row of its own in participants.tsv"
            if other := near(subject, self.subjects - self.named):
                reason += f", which has a row {other!r}: write it as the folder is called"
            return config.site, {}, [Finding("D28", reason, "", subject, session)]
        columns, findings = self._joined(row, subject, session)
        written = columns.get(config.site_column, "")
        if not is_unknown(written):
            return written, columns, findings
        if not config.site and config.site_column in columns:
            shown = f"{config.site_column} {written!r}" if written else f"no {config.site_column}"
            reason = f"the row of sub-{subject} has {shown}"
            findings.append(Finding("D06", reason, "", subject, session))
        return config.site, columns, findings

    def _joined(self, row: Row, subject: str, session: str) -> tuple[Row, list[Finding]]:
        """Return a subject's row with what its own table says of a session."""
        own = self.own.get(subject, SubjectRows((), {}))
        said = [f for f in own.findings if f.session in {"", session}]
        findings = [replace(f, subject=subject, session=session) for f in said]
        visit = own.of(subject, session)
        if visit is not None or not own.columns:
            return {**row, **(visit or {})}, findings
        if not findings:
            reason = f"sub-{subject}_sessions.tsv has no row for session {session or '(unnamed)'}"
            if other := near(session, (name for _, name in own.visits)):
                reason += f", but one for {other!r}: write it as the folder is called"
            findings = [Finding("D28", reason, "", subject, session, is_excluded=False)]
        return {**row, **dict.fromkeys(own.columns, "")}, findings

    def shared_by(self, scans: Iterable[Scan]) -> list[Finding]:
        """Warn where one row is all that is known of several sessions."""
        counts = Counter(scan.subject for scan in scans)
        by_session = {subject for subject, table in self.own.items() if table.columns}
        by_session |= {subject for subject, _ in self.rows.visits} if self.rows else set()
        several = sorted(s for s, n in counts.items() if n > 1 and s not in by_session)
        if self.rows is None or not several:
            return []
        reason = (
            f"{len(several)} subjects, such as sub-{several[0]}, have several sessions and one "
            "row: its values count for all; sub-*_sessions.tsv can say them by session"
        )
        return [Finding("D75", reason, is_excluded=False)]


def read_tables(root: Path, folders: Iterable[Path]) -> Tables:
    """Read all tables of a BIDS data set.

    Args:
        root: Its folder.
        folders: Those of its subjects.

    Raises:
        DataError: ``participants.tsv`` cannot be used (D05).
    """
    own = {folder.name[4:]: session_rows(folder, folder.name[4:]) for folder in folders}
    path = root / "participants.tsv"
    if not path.exists() and not path.is_symlink():
        return Tables(None, own, other_table(root))
    sessions = {place.name for folder in folders for place in folder.glob("ses-*")}
    return Tables(subject_rows(read_table(path, "participant_id"), sessions), own)


def other_table(folder: Path) -> str:
    """Return the name of a file that may be meant as ``participants.tsv``, or nothing."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return next((name for name in names if TABLE_NAME.fullmatch(name)), "")


def label_of(name: str, prefix: str) -> str:
    """Return the label of ``sub-01`` or ``ses-01``, written with its prefix or without.

    What cannot be seen does not count: spreadsheets and web pages leave marks of zero width.
    """
    return tidied(name).removeprefix(prefix)


def near(label: str, labels: Iterable[str]) -> str:
    """Return the one label that a spreadsheet may have made of another, or nothing.

    Such is ``1`` of ``001``, or one in other letters.
    """
    found = [each for each in sorted(set(labels)) if blurred(_plain(each)) == blurred(label)]
    return found[0] if len(found) == 1 else ""


def _plain(label: str) -> str:
    """Return a label without ``sub_``, as underscores in place of hyphens leave it."""
    return re.sub(r"^(sub|ses)(?=[\W_])", "", label, flags=re.IGNORECASE)


def _session_column(table: SubjectTable, sessions: set[str]) -> str:
    for name in SESSION_COLUMNS:
        if name in table.columns:
            values = {label_of(row[name], "ses-") for row in table.rows}
            if name == "session_id" or values & sessions - {""}:
                return name
    return ""


def _placed(finding: Finding) -> Finding:
    subject, _, session = finding.subject.partition(" ")
    return replace(finding, subject=subject, session=session)
