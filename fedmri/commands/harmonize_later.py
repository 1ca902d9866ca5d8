"""A table that comes after the fit: harmonized by parameters on disk, nothing fitted anew."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedmri.errors import UsageError
from fedmri.harmonize.cautions import named
from fedmri.harmonize.combat_table import harmonize_later
from fedmri.harmonize.saved_combat import read_combat
from fedmri.harmonize.table import Columns, cohort_like
from fedmri.harmonize.table_source import Source


@dataclass(frozen=True)
class Later:
    """What is asked of rows that come later.

    Attributes:
        parameters: File of the fit.
        site: Column of the site, and its pattern.
        n_min: Fewest rows with which a new site joins.
        may_exclude: Rows with a missing covariate come out empty instead of being refused.
    """

    parameters: Path
    site: Columns
    n_min: int
    may_exclude: bool

    def refuse_beside(self, options: Mapping[str, str]) -> None:
        """Refuse what the fit has settled (U01)."""
        given = ", ".join(name for name, text in options.items() if text)
        if given:
            fix = "leave it out, or fit anew without --parameters"
            want = "none: what was fitted is settled"
            what = f"--parameters {self.parameters}"
            raise UsageError("U01", what, found=given, want=want, fix=fix)

    def harmonize(self, source: Source, out: Path, *, is_json: bool) -> None:
        """Write the harmonized table and the parameters with the effects of its sites; say so."""
        saved = read_combat(self.parameters)
        columns = dataclasses.replace(self.site, features=saved.features, unclear=source.unclear)
        found = cohort_like(source.frame, columns, saved.kept)
        result = harmonize_later(found, saved, self.n_min, may_exclude=self.may_exclude)
        source.write(out, found, result.values)
        cautions = (*source.cautions, *result.cautions)
        dataclasses.replace(saved, effects=result.effects).write(out.with_suffix(".npz"))
        if is_json:
            told = [dataclasses.asdict(caution) for caution in cautions]
            said = {"version": saved.version, "cautions": told, "features": saved.features}
            print(json.dumps(said | {"table": str(out)}))
            return
        for caution in cautions:
            print(f"Caution: {caution.text} [{caution.code}]")
        print(f"Columns harmonized: {named(saved.features, len(saved.features))}")
        print(f"Table: {out}")
        print(f"Parameters: {out.with_suffix('.npz')} (version {saved.version[:12]})")
