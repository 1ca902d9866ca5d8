"""nnU-Net's fingerprint over hospitals: the run ends with a U-Net that fits all their scans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fedmri.claims import Claims
from fedmri.errors import ConfigError
from fedmri.harmonize.sums import Arrays
from fedmri.stages.on_images import SUMS_OF_IMAGES
from fedmri.stages.stage import AtSite, Made, Place, Stage, When

if TYPE_CHECKING:
    from fedmri.harmonize.images import fingerprint as sums
    from fedmri.plan import Plan

SETTINGS = "unet.yaml"
N_DIMS = 3


@dataclass(frozen=True)
class Fingerprint(Stage):
    """Medians of voxel sizes and sides over all hospitals' training volumes; nothing is trained.

    The run's folder then holds ``unet.yaml``: settings of ``model=dynunet`` for another plan, by
    the rules of nnU-Net. Counts are refined to a single scan, so they leave under masks alone.
    """

    place: ClassVar[Place] = Place.IMAGES
    when: ClassVar[When] = When.BEFORE_ROUNDS
    is_handed_out: ClassVar[bool] = True
    claims: ClassVar[Claims] = SUMS_OF_IMAGES
    source: ClassVar[str] = "Isensee et al. 2021, doi:10.1038/s41592-020-01008-z"
    consent: ClassVar[str] = "counts of training scans by voxel size and by number of voxels a side"

    def refuse(self, plan: Plan) -> None:
        """Refuse a plan that trains, that has slices, or that sums in clear (C03)."""
        wanted = {
            "rounds.n_rounds=0": plan.rounds.n_rounds == 0,
            "data.prepare.dimension=3d": plan.data.prepare.dimension == "3d",
            "secagg.is_on=true": plan.secagg.is_on,
        }
        missing = [setting for setting, is_set in wanted.items() if not is_set]
        if missing:
            raise ConfigError(
                "C03",
                "stage fingerprint",
                found="a plan that trains, has slices, or shows the server each hospital's counts",
                want="masked sums over volumes, and no round",
                fix=f"set {', '.join(missing)}",
            )

    def fit(self, made: Made) -> sums.Fingerprint:
        """Return the counts in bins that are refined to medians."""
        from fedmri.harmonize.images import fingerprint as sums
        from fedmri.models.planning import chosen_spacing_mm

        return sums.Fingerprint(N_DIMS, chosen_spacing_mm)

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return the counts of this site's training volumes; a 2D image is none."""
        from fedmri.data.preparation.own_grids import training_sizes
        from fedmri.harmonize.images.fingerprint import ScanGrid

        grids = [ScanGrid(*size) for path in at.files for size in training_sizes(path)]
        volumes = [grid for grid in grids if len(grid.shape) == N_DIMS]
        return self.fit(at.made).site_sums(step, volumes, shared)

    def write_fitted(self, made: Made, fitted: Arrays, folder: Path) -> None:
        """Write the settings of the planned network, with the medians that it was planned from."""
        import json

        from fedmri.harmonize.images.fingerprint import SHAPE, SPACING, TARGET
        from fedmri.machine.files import write_whole
        from fedmri.models.planning import planned

        spacing, shape = fitted[TARGET].tolist(), fitted[SHAPE].tolist()
        found = planned(spacing, shape, made.plan.target.n_outputs).settings
        settings: dict[str, Any] = {"model": {"name": "dynunet"}, "data": {"prepare": {}}}
        for name, value in found.items():
            section, _, last = name.rpartition(".")
            place = settings["model"] if section == "model" else settings["data"]["prepare"]
            place[last] = value
        told = [
            f"# median voxel {fitted[SPACING].round(3).tolist()} mm",
            f"# planned for voxels of {fitted[TARGET].round(3).tolist()} mm",
            f"# median sides there {fitted[SHAPE].round(1).tolist()}",
            json.dumps(settings, indent=1),  # which is YAML too
        ]
        write_whole(folder / SETTINGS, "\n".join(told) + "\n")
