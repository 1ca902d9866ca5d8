"""The command that harmonizes a table whose rows come from several sites."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmri.commands.apps import AsJson
from fedmri.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fedmri.commands.harmonize_page import Judged, Work
    from fedmri.harmonize.combat import Mode
    from fedmri.harmonize.combat_table import Harmonized
    from fedmri.harmonize.decodability import ProbeSettings
    from fedmri.harmonize.table import Cohort

SUBJECT_COLUMNS = ("participant_id", "subject", "subject_id", "sub_id", "sub")
TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".tab", ".dat")
TRUE = frozenset({"1", "1.0", "true", "yes", "train", "training"})


def harmonize(
    table: Annotated[Path, typer.Argument(help="CSV or TSV file, a subject or scan a row.")],
    site_column: Annotated[str, typer.Option(help="Column that holds the site.")],
    site_pattern: Annotated[
        str, typer.Option(help="Regular expression: its first group is the site in that column.")
    ] = "",
    covariates: Annotated[str, typer.Option(help="Columns whose effect is kept: age,sex.")] = "",
    categorical: Annotated[
        str, typer.Option(help="Covariates that are coded as numbers but are categories.")
    ] = "",
    features: Annotated[
        str,
        typer.Option(
            help="Columns to harmonize, or patterns (lh_*). Without it, a rule finds them."
        ),
    ] = "",
    also: Annotated[
        str,
        typer.Option(help="Further columns to harmonize, beside the columns that the rule finds."),
    ] = "",
    keep: Annotated[
        str, typer.Option(help="Columns to leave as they are, even if the rule finds them.")
    ] = "",
    decimal: Annotated[
        str, typer.Option(help="Decimal mark, . or , if the table does not show it.")
    ] = "",
    missing: Annotated[
        str, typer.Option(help="Further texts that stand for missing values, such as -4,x.")
    ] = "",
    mode: Annotated[str, typer.Option(help="eb, no_eb, mean_only or nonparametric.")] = "eb",
    smooth: Annotated[
        str, typer.Option(help="Covariates with a curved effect (cubic splines), such as age.")
    ] = "",
    covbat: Annotated[
        bool, typer.Option(help="Harmonize the covariance of features too (CovBat).")
    ] = False,
    reference: Annotated[
        str, typer.Option(help="Reference site: the other sites are brought to its scale.")
    ] = "",
    n_min: Annotated[
        int, typer.Option(help="Smallest number of rows with which a site takes part.")
    ] = 10,
    train_column: Annotated[
        str, typer.Option(help="Column that is 1, true, yes or train in the rows to fit on.")
    ] = "",
    train_sites: Annotated[
        str, typer.Option(help="Sites to fit on. The others join later, with frozen parameters.")
    ] = "",
    target: Annotated[
        str, typer.Option(help="Column that a model predicts at left-out sites. It is never kept.")
    ] = "",
    subject_column: Annotated[
        str, typer.Option(help="Column of the subject, where subjects have several rows.")
    ] = "",
    parameters: Annotated[
        Path | None,
        typer.Option(
            help="Parameters of an earlier fit (.npz). Nothing is fitted anew. Sites that are not "
            "in the fit join with frozen parameters."
        ),
    ] = None,
    exclude_incomplete: Annotated[
        bool, typer.Option(help="Leave rows without a covariate empty instead of refusing them.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write; parameters (.npz) and page (.html) go beside it."),
    ] = None,
    calibrate: Annotated[
        str, typer.Option(help="With --target: numbers of labelled patients of the new site.")
    ] = "3,5,10",
    permutations: Annotated[
        int, typer.Option(min=19, help="Permutations for the p value of the probe.")
    ] = 200,
    seed: Annotated[int, typer.Option(help="Seed of folds, permutations and resampling.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Remove scanner effects from a table of features by ComBat, and show the change.

    Each site is simulated as if it were alone with its rows. Only sums over sites are shared. All
    other cells stay as they are, byte for byte. The command prints how it read each column, and
    asks about unclear columns. A page shows features by site and how well a probe names the site,
    before and after. With --target it also shows a model's errors at left-out sites.
    """
    from fedmri.commands.harmonize_later import Later
    from fedmri.commands.harmonize_page import Work
    from fedmri.harmonize.combat import ComBat, refuse_target
    from fedmri.harmonize.decodability import ProbeSettings
    from fedmri.harmonize.sums import version
    from fedmri.harmonize.table import Columns, cohort
    from fedmri.harmonize.table_source import read

    out, kept = _outputs(table, out), _names(covariates)
    refuse_target(kept, target or None)
    source = read(table, decimal, _names(missing))
    if parameters is not None:
        later = Later(parameters, Columns(site_column, site_pattern), n_min, exclude_incomplete)
        settled = {"--covariates": covariates, "--categorical": categorical, "--features": features}
        settled |= {"--also": also, "--keep": keep, "--smooth": smooth}
        settled |= {"--covbat": "yes" * covbat}
        settled |= {"--reference": reference, "--mode": mode.removeprefix("eb"), "--target": target}
        later.refuse_beside(
            settled | {"--train-column": train_column, "--train-sites": train_sites}
        )
        later.harmonize(source, out, is_json=as_json)
        return
    columns = Columns(
        site_column,
        site_pattern,
        kept,
        _names(categorical),
        _names(features),
        tuple(name for name in (target, train_column, subject_column) if name),
        _names(also),
        _names(keep),
        source.unclear,
    )
    found = cohort(source.frame, columns)
    stage = ComBat(
        len(found.features),
        found.columns,
        _mode(mode),
        reference=reference or None,
        n_min=n_min,
        smooth=_names(smooth),
        is_covbat=covbat,
    )
    subjects = _subjects(source.frame, found, subject_column)
    work = Work(source, found, stage, subjects, target or None, seed, _counts(calibrate))
    is_train = _training_rows(work, train_column, _names(train_sites))
    result = _harmonized(work, is_train, may_exclude=exclude_incomplete)
    judged = _judged(work, result, ProbeSettings(permutations, seed))
    _write(out, work, result, judged)
    _report(out, judged, found, version(result.parameters), is_json=as_json)


def _harmonized(work: Work, is_train: NDArray[np.bool_] | None, *, may_exclude: bool) -> Harmonized:
    """Harmonize, and add what is to be told of the table itself."""
    from fedmri.harmonize.combat_table import harmonize as run
    from fedmri.harmonize.table import named_identifiers, nearly_numbers
    from fedmri.harmonize.unfit_values import unfit_values

    result = run(work.cohort, work.stage, is_train, may_exclude=may_exclude)
    frame, parts = work.source.frame, work.cohort.parts
    told = (
        *work.source.cautions,
        *nearly_numbers(frame, parts),
        *named_identifiers(frame, parts),
        *unfit_values(work.cohort, result.parameters["is_fitted"] > 0),
        *result.cautions,
    )
    return dataclasses.replace(result, cautions=told)


def _write(out: Path, work: Work, result: Harmonized, judged: Judged) -> None:
    """Write the table, and beside it what was fitted and the page."""
    from fedmri.commands.harmonize_page import show
    from fedmri.harmonize.combat_table import saved_of

    work.source.write(out, work.cohort, result.values)
    saved = saved_of(result, work.cohort, work.stage)
    saved.write(out.with_suffix(".npz"))
    show(out.with_suffix(".html"), work, result, judged, saved.version)


def _outputs(table: Path, out: Path | None) -> Path:
    suffix = table.suffix if table.suffix.lower() in TEXT_SUFFIXES else ".csv"
    out = out or table.with_name(f"{table.stem}.harmonized{suffix}")
    if out.resolve() == table.resolve() or out.suffix.lower() not in TEXT_SUFFIXES:
        fix = f"name another file that ends in {' or '.join(TEXT_SUFFIXES[:2])}"
        raise UsageError("U01", f"--out {out}", found="that", want="a new table", fix=fix)
    if not out.parent.is_dir():
        fix = "make the folder first"
        raise UsageError("U01", f"--out {out}", found="no such folder", want="one", fix=fix)
    return out


def _names(text: str) -> tuple[str, ...]:
    """Return the names of a list; one with a comma stands in quotes."""
    names = next(csv.reader([text], skipinitialspace=True), [])
    return tuple(name.strip() for name in names if name.strip())


def _counts(text: str) -> tuple[int, ...]:
    from fedmri.errors import require

    is_fine = all(name.isdecimal() and int(name) > 0 for name in _names(text))
    require(is_fine, "--calibrate", text, "whole numbers such as 3,5,10")
    return tuple(sorted(map(int, _names(text))))


def _mode(text: str) -> Mode:
    from fedmri.errors import require
    from fedmri.harmonize.combat import MODES

    modes: dict[str, Mode] = {mode: mode for mode in MODES}
    name = text.strip().replace("-", "_")
    require(name in modes, "--mode", text, f"one of {', '.join(MODES)}")
    return modes[name]


def _subjects(frame: pd.DataFrame, found: Cohort, column: str) -> NDArray[np.str_]:
    """Return the subject of each row, told apart between sites; each row is one by default."""
    import numpy as np

    from fedmri.harmonize.table import refuse_missing_columns

    if column:
        refuse_missing_columns(frame, [column])
    name = column or next((name for name in SUBJECT_COLUMNS if name in frame.columns), "")
    own = frame[name].tolist() if name else range(len(frame))
    return np.array([f"{s}/{subject}" for s, subject in zip(found.sites, own, strict=True)])


def _training_rows(work: Work, column: str, sites: tuple[str, ...]) -> NDArray[np.bool_] | None:
    import numpy as np

    from fedmri.errors import HarmonizeError

    unknown = [site for site in sites if site not in work.cohort.names]
    if unknown:
        fix = f"name sites of the table: {', '.join(work.cohort.names)}"
        found = f"no site {', '.join(unknown)}"
        raise HarmonizeError("H12", "--train-sites", found=found, want="sites", fix=fix)
    rows = np.ones(len(work.source.frame), dtype=np.bool_)
    if column:
        rows &= work.source.frame[column].str.strip().str.lower().isin(TRUE).to_numpy(dtype=bool)
    if sites:
        rows &= np.isin(work.cohort.sites, list(sites))
    return rows if column or sites else None


def _judged(work: Work, result: Harmonized, probe: ProbeSettings) -> Judged:
    """Measure before, after, and after for subjects whom the harmonization did not know."""
    import numpy as np

    from fedmri.commands.harmonize_page import Judged
    from fedmri.commands.harmonize_target import predicted
    from fedmri.errors import HarmonizeError
    from fedmri.harmonize.cautions import Caution
    from fedmri.harmonize.combat_table import harmonize as run
    from fedmri.harmonize.decodability import Samples, decodability

    cohort, usable = work.cohort, work.cohort.has_covariates
    stage = dataclasses.replace(work.stage, n_min=1)  # a fold has fewer rows, and is not released

    def refit(rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        is_train = usable.copy()
        is_train[usable] = rows
        return run(cohort, stage, is_train, may_exclude=True).values[usable]

    nothing = np.zeros((len(usable), 0))
    given = {"Site from features": nothing}
    if cohort.columns:
        given[f"Site from features given {', '.join(cohort.columns)}"] = cohort.covariates
    measured, told = {}, []
    for name, known in given.items():
        before, after = (
            Samples(side, cohort.sites, work.subjects, known).at(usable)
            for side in (cohort.values, result.values)
        )
        try:
            sides = decodability(before, probe), decodability(after, probe)
            measured[name] = (*sides, decodability(before, probe, refit))
        except HarmonizeError as error:  # the table is harmonized all the same
            told.append(Caution(error.code, f"{name}: not measured. {error}"))
    found = predicted(work, work.target) if work.target else None
    cautions = (*result.cautions, *told, *(found.cautions if found else ()))
    return Judged(measured, found, cautions)


def _report(out: Path, judged: Judged, cohort: Cohort, version: str, *, is_json: bool) -> None:
    from fedmri.commands.harmonize_page import WHEN
    from fedmri.harmonize.cautions import named
    from fedmri.harmonize.column_parts import left

    told = [dataclasses.asdict(caution) for caution in judged.cautions]
    shares = {
        name: [dataclasses.asdict(side) for side in sides]
        for name, sides in judged.decodability.items()
    }
    errors = judged.predicted.errors if judged.predicted else None
    sizes = {} if errors is None or not len(errors.rows) else errors.sizes()
    task = [float(values.mean()) for values in sizes.values()]
    calibrations = judged.predicted.calibrations if judged.predicted else {}
    labelled = {
        k: [float(v.mean()) for v in (of.plain, of.before, of.after)]
        for k, of in calibrations.items()
    }
    if is_json:
        found = {"version": version, "cautions": told, "decodability": shares, "task": task}
        found |= {"calibrated": labelled}
        parts = {name: of.part for name, of in cohort.parts.items()}
        found |= {"features": list(cohort.features), "columns": parts}
        print(json.dumps(found | {"table": str(out)}))
        return
    for caution in judged.cautions:
        print(f"Caution: {caution.text} [{caution.code}]")
    print(f"Columns harmonized: {named(cohort.features, len(cohort.features))}")
    for what, names in left(cohort.parts):
        print(f"Left as they were, {what}: {named(names, len(names))}")
    for name, sides in judged.decodability.items():
        shown = (f"{s.accuracy:.3f} {when}" for when, s in zip(WHEN, sides, strict=True))
        print(f"{name}: {', '.join(shown)} (largest site {sides[0].largest_share:.3f})")
    if task:
        print("Error at left-out sites: {:.3f} before, {:.3f} after ({:.3f})".format(*task))
    if judged.predicted:
        print(f"Confounding: {judged.predicted.between}")
    for k, means in labelled.items():
        said = "With {} labelled patients there: {:.3f} before ({:.3f} without), {:.3f} after"
        print(said.format(k, means[1], means[0], means[2]))
    _say_files(out, version)


def _say_files(out: Path, version: str) -> None:
    print(f"Table: {out}\nParameters: {out.with_suffix('.npz')} (version {version[:12]})")
    print(f"Page: {out.with_suffix('.html')}")
