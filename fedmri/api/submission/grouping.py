"""A finished run by groups of its test patients, which the tables of its data know."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedmri.api.result import CONFIG, refuse_no_run
from fedmri.config import Experiment, load_resolved
from fedmri.data.read import read
from fedmri.data.scans import Scan
from fedmri.errors import UsageError
from fedmri.reports.groups import GroupScore, group_scores, in_groups
from fedmri.reports.results import Results, load_results


def scores_by_group(run: str | os.PathLike[str], by: Sequence[str]) -> tuple[GroupScore, ...]:
    """Return how a run's first model scores groups of test patients, each beside all others.

    The columns are read from the tables of the run's data set, which must still be there. No group
    was planned by this function: name those that you planned, for p-values count all that is named.

    Args:
        run: Folder of a finished run.
        by: Columns, as ``sex``; numbers with the edges of bands, as ``age:40|60``.

    Raises:
        UsageError: The folder is no run (U02, U10 to U13), or no table has the column (U01).
        DataError: The data set cannot be read (D04, D05).
    """
    refuse_no_run(run)
    experiment, results = load_resolved(Path(run) / CONFIG), load_results(Path(run))
    rows = _rows(experiment, results)
    return group_scores(
        results, experiment.plan.target, {_name(one): _groups(rows, one) for one in by}
    )


def _rows(experiment: Experiment, results: Results) -> dict[tuple[str, str], Mapping[str, str]]:
    """Return the row of the table of every tested patient, by site and subject."""
    from fedmri.simulation.sites import with_path

    plan, simulation = experiment.plan, experiment.simulation
    n_sites, cache = experiment.partition.n_sites, Path(simulation.cache)
    scans = read(with_path(plan.data.source, n_sites, cache, plan.seed)).scans
    named: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        named[scan.subject].append(scan)
    tested = {
        (site, case.subject)
        for sites in results.cases.values()
        for site, cases in sites.items()
        for case in cases
    }
    # sites of a simulation need not be those of the table: then the name must tell
    return {
        (site, who): next(
            (scan.columns for scan in named[who] if scan.site == site or _is_one(named[who])), {}
        )
        for site, who in tested
    }


def _is_one(scans: Sequence[Scan]) -> bool:
    return len({scan.patient for scan in scans}) == 1


def _name(asked: str) -> str:
    return asked.partition(":")[0]


def _groups(
    rows: Mapping[tuple[str, str], Mapping[str, str]], asked: str
) -> dict[tuple[str, str], str]:
    """Return the group of each patient by one column.

    Raises:
        UsageError: No row has the column, or edges are no numbers (U01).
    """
    name, _, edges = asked.partition(":")
    if not any(name in row for row in rows.values()):
        there = sorted({column for row in rows.values() for column in row})
        want, fix = "a column of the subject tables", "name one of those"
        raise UsageError(
            "U01", f"--by {name}", found=f"columns {', '.join(there)}", want=want, fix=fix
        )
    return in_groups({key: row.get(name, "") for key, row in rows.items()}, edges)
