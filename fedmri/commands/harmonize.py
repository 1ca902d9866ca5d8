"""The command that harmonizes a table whose rows come from several sites."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedmri.commands.apps import AsJson
from fedmri.errors import UsageError

if TYPE_CHECKING:
    from fedmri.api.tables import HarmonizedTable
    from fedmri.harmonize.cautions import Caution
    from fedmri.harmonize.judging.table_judged import Judged

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".tab", ".dat")


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
    from fedmri.api.tables import TableHarmonizer, harmonize_table

    out = _outputs(table, out)
    if parameters is not None:
        settled = {"--covariates": covariates, "--categorical": categorical, "--features": features}
        settled |= {"--also": also, "--keep": keep, "--smooth": smooth}
        settled |= {"--covbat": "yes" * covbat}
        settled |= {"--reference": reference, "--mode": mode.removeprefix("eb"), "--target": target}
        settled |= {"--train-column": train_column, "--train-sites": train_sites}
        _refuse_beside(parameters, settled)
        later = TableHarmonizer.open(parameters, site_column, site_pattern).apply(
            table,
            decimal=decimal,
            missing=_names(missing),
            n_min=n_min,
            exclude_incomplete=exclude_incomplete,
        )
        _write(out, later)
        _report_later(out, later, is_json=as_json)
        return
    counts = _counts(calibrate)
    found = harmonize_table(
        table,
        site_column,
        site_pattern=site_pattern,
        covariates=_names(covariates),
        categorical=_names(categorical),
        features=_names(features),
        also=_names(also),
        keep=_names(keep),
        decimal=decimal,
        missing=_names(missing),
        mode=mode,
        smooth=_names(smooth),
        covbat=covbat,
        reference=reference,
        n_min=n_min,
        train_column=train_column,
        train_sites=_names(train_sites),
        target=target,
        subject_column=subject_column,
        exclude_incomplete=exclude_incomplete,
    )
    judged = found.judged(permutations, seed, counts)
    _write(out, found)
    found.report(out.with_suffix(".html"), judged, seed)
    _report(out, found, judged, is_json=as_json)


def _write(out: Path, found: HarmonizedTable) -> None:
    """Write the table, and what was fitted beside it."""
    found.write(out)
    found.save(out.with_suffix(".npz"))


def _refuse_beside(parameters: Path, options: Mapping[str, str]) -> None:
    """Refuse what the fit has settled (U01)."""
    given = ", ".join(name for name, text in options.items() if text)
    if given:
        fix = "leave it out, or fit anew without --parameters"
        want = "none: what was fitted is settled"
        what = f"--parameters {parameters}"
        raise UsageError("U01", what, found=given, want=want, fix=fix)


def _outputs(table: Path, out: Path | None) -> Path:
    suffix = table.suffix if table.suffix.lower() in TEXT_SUFFIXES else ".csv"
    out = out or table.parent / f"{table.stem}.harmonized{suffix}"
    # `resolve` ends where links go in a circle
    is_same = os.path.realpath(out) == os.path.realpath(table)
    if is_same or out.suffix.lower() not in TEXT_SUFFIXES:
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


def _report(out: Path, found: HarmonizedTable, judged: Judged, *, is_json: bool) -> None:
    if is_json:
        print(json.dumps(_as_values(found, judged) | {"table": str(out)}))
        return
    from fedmri.harmonize.cautions import named
    from fedmri.harmonize.judging.table_judged import WHEN
    from fedmri.harmonize.tables.column_parts import left

    _tell(found, judged.cautions)
    for what, names in left(found.cohort.parts):
        print(f"Left as they were, {what}: {named(names, len(names))}")
    for name, sides in judged.decodability.items():
        shown = (f"{s.accuracy:.3f} {when}" for when, s in zip(WHEN, sides, strict=True))
        print(f"{name}: {', '.join(shown)} (largest site {sides[0].largest_share:.3f})")
    if task := _task(judged):
        print("Error at left-out sites: {:.3f} before, {:.3f} after ({:.3f})".format(*task))
    if judged.predicted:
        print(f"Confounding: {judged.predicted.between}")
    for k, means in _labelled(judged).items():
        said = "With {} labelled patients there: {:.3f} before ({:.3f} without), {:.3f} after"
        print(said.format(k, means[1], means[0], means[2]))
    _say_files(out, found)
    print(f"Page: {out.with_suffix('.html')}")


def _report_later(out: Path, found: HarmonizedTable, *, is_json: bool) -> None:
    if is_json:
        print(json.dumps(_shared_values(found, found.cautions) | {"table": str(out)}))
        return
    _tell(found, found.cautions)
    _say_files(out, found)


def _shared_values(found: HarmonizedTable, cautions: Sequence[Caution]) -> dict[str, Any]:
    told = [asdict(caution) for caution in cautions]
    return {"version": found.harmonizer.version, "cautions": told, "features": found.features}


def _as_values(found: HarmonizedTable, judged: Judged) -> dict[str, Any]:
    shares = {name: [asdict(side) for side in s] for name, s in judged.decodability.items()}
    said = {"decodability": shares, "task": _task(judged), "calibrated": _labelled(judged)}
    parts = {name: of.part for name, of in found.cohort.parts.items()}
    return _shared_values(found, judged.cautions) | said | {"columns": parts}


def _task(judged: Judged) -> list[float]:
    """Return the mean errors at left-out sites, if a target was named and could be predicted."""
    errors = judged.predicted.errors if judged.predicted else None
    sizes = {} if errors is None or not len(errors.rows) else errors.sizes()
    return [float(values.mean()) for values in sizes.values()]


def _labelled(judged: Judged) -> dict[int, list[float]]:
    calibrations = judged.predicted.calibrations if judged.predicted else {}
    return {
        k: [float(v.mean()) for v in (of.plain, of.before, of.after)]
        for k, of in calibrations.items()
    }


def _tell(found: HarmonizedTable, cautions: Sequence[Caution]) -> None:
    from fedmri.harmonize.cautions import named

    for caution in cautions:
        print(f"Caution: {caution.text} [{caution.code}]")
    print(f"Columns harmonized: {named(found.features, len(found.features))}")


def _say_files(out: Path, found: HarmonizedTable) -> None:
    version = found.harmonizer.version[:12]
    print(f"Table: {out}\nParameters: {out.with_suffix('.npz')} (version {version})")
