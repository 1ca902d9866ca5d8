"""Fitted ComBat on disk: for rows that come later, at sites of the fit and at new ones.

NumPy's ``npz``, plain arrays without pickles: the shared parameters with the sums that a refit adds
to, their version, what they are of, and the effect of each site that the writer knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat.combat_site import SiteEffect
from fedmri.harmonize.combat.model import MODES, ComBat
from fedmri.harmonize.sums import Arrays, version
from fedmri.harmonize.tables.table import Kept, kept_columns

_TEXTS = ("version", "features", "kept", "mode", "reference")
_OF_SITE = "site/"


@dataclass(frozen=True)
class SavedComBat:
    """What was fitted, and of what.

    Attributes:
        parameters: What the last ``combine`` returned.
        features: Names, p of them.
        kept: Covariates whose effect is kept; see ``table.Kept``.
        mode: As in ``ComBat``.
        reference: Site that is left as it is; empty for none.
        effects: What is taken out of sites, by name.
    """

    parameters: Arrays
    features: tuple[str, ...]
    kept: Kept
    mode: str
    reference: str = ""
    effects: Mapping[str, SiteEffect] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """SHA-256 of the shared parameters."""
        return version(self.parameters)

    def stage(self, n_min: int) -> ComBat:
        """Return the settings of the fit, under which a new site takes part with ``n_min`` rows."""
        mode = next(known for known in MODES if known == self.mode)
        columns, reference = kept_columns(self.kept), self.reference or None
        knots = self.parameters.get("knots", np.full((len(columns), 1), np.nan))
        bends = [bool(np.isfinite(row).all()) for row in knots]
        return ComBat(
            len(self.features),
            columns,
            mode,
            reference=reference,
            n_min=n_min,
            smooth=tuple(name for name, is_bent in zip(columns, bends, strict=True) if is_bent),
            is_covbat="rotation" in self.parameters,
        )

    def write(self, path: Path) -> None:
        """Write it."""
        own = {
            f"{_OF_SITE}{site}/{name}": getattr(effect, name)
            for site, effect in self.effects.items()
            for name in ("gamma_star", "delta_star", "score_shift", "score_stretch")
        }
        texts = {
            "version": np.array(self.version),
            "features": np.array(self.features),
            "kept": np.array(json.dumps(self.kept)),
            "mode": np.array(self.mode),
            "reference": np.array(self.reference),
        }
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.parameters, **own, **texts)


def read_combat(path: Path) -> SavedComBat:
    """Read what ``SavedComBat.write`` wrote.

    Raises:
        HarmonizeError: The file is none of those, or its numbers were changed (H27).
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        texts = {name: arrays.pop(name) for name in _TEXTS}
        own = {name: arrays.pop(name) for name in list(arrays) if name.startswith(_OF_SITE)}
        found = SavedComBat(
            arrays,
            tuple(texts["features"].tolist()),
            {name: tuple(levels) for name, levels in json.loads(str(texts["kept"])).items()},
            str(texts["mode"]),
            str(texts["reference"]),
            _effects(own, str(texts["mode"]), str(texts["reference"])),
        )
        is_whole = found.version == str(texts["version"]) and found.mode in MODES
    except (OSError, ValueError, KeyError, BadZipFile, EOFError) as error:
        raise _unreadable(path, str(error) or type(error).__name__) from error
    if not is_whole:
        raise _unreadable(path, "numbers that are not those of its version")
    return found


def _effects(own: Mapping[str, np.ndarray], mode: str, reference: str) -> dict[str, SiteEffect]:
    names = sorted({name.removeprefix(_OF_SITE).rpartition("/")[0] for name in own})
    effects = {}
    for site in names:
        shift, spread = (own[f"{_OF_SITE}{site}/{of}"] for of in ("gamma_star", "delta_star"))
        scores = [
            own.get(f"{_OF_SITE}{site}/{of}", np.zeros(0))
            for of in ("score_shift", "score_stretch")
        ]
        unknown, is_flat = np.full(len(shift), np.nan), np.zeros(len(shift), dtype=np.bool_)
        is_reference = site == reference
        effects[site] = SiteEffect(
            *(site, unknown, unknown, unknown, shift, spread, None, is_reference, mode, is_flat),
            *scores,
        )
    return effects


def _unreadable(path: Path, found: str) -> HarmonizeError:
    fix = "give the .npz that `fedmri harmonize` wrote beside its table, unchanged"
    what, want = f"parameters {path}", "those of a fitted ComBat"
    return HarmonizeError("H27", what, found=found, want=want, fix=fix)
