"""ComBat of tables of features that lie at sites; a plan for it trains no network."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import require
from fedmri.harmonize.settings import TableConfig
from fedmri.harmonize.sums import Arrays
from fedmri.stages.stage import AtSite, Made, Place, Stage, When

if TYPE_CHECKING:
    from fedmri.harmonize.combat.model import ComBat
    from fedmri.harmonize.combat.own_table import OwnTable
    from fedmri.harmonize.combat.site_table import SiteTable
    from fedmri.plan import Plan

log = logging.getLogger("fedmri.client")


@dataclass(frozen=True)
class TableCombat(TableConfig, Stage):
    """Each site's table is brought to the scale of all sites, and stays at the site."""

    place: ClassVar[Place] = Place.TABLE
    when: ClassVar[When] = When.BEFORE_ROUNDS
    is_handed_out: ClassVar[bool] = True
    claims: ClassVar[Claims] = frozenset({Claim.SUM_IS_ENOUGH, Claim.UPDATE_UNTOUCHED})
    source: ClassVar[str] = "Johnson et al. 2007, doi:10.1093/biostatistics/kxj037"

    @property
    def consent(self) -> str:  # type: ignore[override]  # it names the columns
        """Return which columns are summed; those named like identifiers are marked."""
        from fedmri.harmonize.tables.column_names import hint

        odd = [name for name in self.features if hint(name) in ("identifier", "date")]
        warned = f"; NAMED LIKE IDENTIFIERS OR DATES: {', '.join(odd)}" if odd else ""
        return (
            f"sums over rows of the table of features ({'CovBat' if self.is_covbat else 'ComBat'}),"
            f" {len(self.features)} columns: {', '.join(self.features)}{warned}; kept: "
            f"{', '.join(self.covariates) or 'nothing'}; the harmonized table stays here, and "
            "other columns neither leave nor change"
        )

    def refuse(self, plan: Plan) -> None:
        """Refuse a plan that also trains, or keeps what shall be predicted (H25, H07)."""
        is_any = bool(self.features)
        require(is_any, "stages.table_combat.features", self.features, "one column or more")
        self.refuse_training(plan.target, plan.rounds.n_rounds)

    def unnamed(self) -> TableCombat:
        """Return it without the name of its reference site."""
        return replace(self, reference="")

    def fit(self, made: Made) -> ComBat:
        """Return ComBat's sums."""
        from fedmri.harmonize.combat.own_table import table_stage

        return table_stage(self)

    def most_numbers(self, made: Made) -> int:
        """Return the numbers of a covariance of all features."""
        return len(self.features) ** 2

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return the sums over rows: nothing that too few patients have."""
        return self.fit(at.made).site_sums(step, self._rows(at), shared)

    def counts(self, at: AtSite) -> tuple[int, int]:
        """Return rows and patients of the site's table."""
        own = self._own(at)
        return len(own.source.frame), own.n_subjects

    def take_out(self, at: AtSite, fitted: Arrays) -> None:
        """Write the site's harmonized table into its own folder."""
        from fedmri.harmonize.combat.own_table import write_harmonized

        for told in write_harmonized(self._own(at), self, fitted, at.folder):
            log.warning("table: %s [%s]", told.text, told.code)

    def write_fitted(self, made: Made, fitted: Arrays, folder: Path) -> None:
        """Write the parameters for hospitals that join later; no site's own effect is known."""
        from fedmri.harmonize.combat.own_table import saved_as

        saved_as(self, fitted, {}).write(folder / "parameters.npz")

    def _own(self, at: AtSite) -> OwnTable:
        from fedmri.harmonize.combat.own_table import read_own

        [path] = at.files
        return read_own(path, at.site, self)

    def _rows(self, at: AtSite) -> SiteTable:
        from fedmri.stages.floor import rows_of

        own, n_least = self._own(at), at.account.n_least
        return rows_of(own, n_least) if n_least else own.rows
