"""Settings of the harmonization room."""

from __future__ import annotations

from dataclasses import dataclass

from fedmri.errors import HarmonizeError, require
from fedmri.harmonize.combat.model import Mode, refuse_target
from fedmri.round import Target


@dataclass(frozen=True)
class TableConfig:
    """ComBat on tables of features; each site has its own table.

    Attributes:
        features: Columns to harmonize, the same at all sites.
        covariates: Columns whose effect is kept: ``age`` for numbers, ``sex=F|M`` for categories,
            with all levels that any site has.
        mode: See ``fedmri harmonize``.
        reference: Site to whose scale the others are brought; empty for none.
        smooth: Covariates that are numbers and whose effect may bend, as that of age does.
        is_covbat: How features vary together is brought in line too.
        n_min: A site with fewer rows takes no part in the fit.
    """

    features: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    mode: Mode = "eb"
    reference: str = ""
    smooth: tuple[str, ...] = ()
    is_covbat: bool = False
    n_min: int = 10

    def __post_init__(self) -> None:
        for name in ("features", "covariates"):
            columns = [text.partition("=")[0].strip() for text in getattr(self, name)]
            is_fine = all(columns) and len(set(columns)) == len(columns)
            require(is_fine, f"stages.table_combat.{name}", getattr(self, name), "each column once")
        levels = [text.partition("=")[2].split("|") for text in self.covariates if "=" in text]
        is_fine = all(len(set(of)) == len(of) > 1 and all(of) for of in levels)
        want = "two levels or more, as in sex=F|M"
        require(is_fine, "stages.table_combat.covariates", self.covariates, want)
        is_fine = set(self.smooth) <= set(self.covariates)
        require(is_fine, "stages.table_combat.smooth", self.smooth, "covariates that are numbers")
        require(self.n_min >= 2, "stages.table_combat.n_min", self.n_min, "2 or more")

    def refuse_training(self, target: Target, n_rounds: int) -> None:
        """Refuse a plan for tables that also trains, or that keeps what shall be predicted.

        Raises:
            HarmonizeError: It has rounds (H25), or the target is a kept covariate (H07).
        """
        refuse_target((text.partition("=")[0] for text in self.covariates), target.name)
        if n_rounds:
            fix = "set rounds.n_rounds=0; train with another plan, on the tables that come of it"
            what, found = "a plan for tables of features", f"{n_rounds} rounds"
            raise HarmonizeError("H25", what, found=found, want="0 rounds", fix=fix)
