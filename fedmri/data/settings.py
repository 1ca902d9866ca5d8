"""Settings of the data room."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from fedmri.data.covariates import Covariate
from fedmri.data.target import OfImages
from fedmri.errors import ConfigError, require
from fedmri.round import Target

OF_VISIT = " of visit "
"""Between modality and number of a channel, where an example has several visits."""


def _n_groups(pattern: str) -> int:
    try:
        return re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError):
        return 0


def _is_drawn(text: str) -> bool:
    names = [name.strip() for name in text.rpartition(":")[2].split("|")]
    return all(names) and len({*names}) == len(names)


@dataclass(frozen=True)
class SourceConfig:
    r"""Where the scans are and what their tables call things.

    Attributes:
        path: Folder of the data set; ``""`` is the embedded default, generated on first use.
        layout: ``auto`` looks: ``participants.tsv`` or ``sub-*`` folders are BIDS, ``.dcm`` files
            or extensionless DICOM files are DICOM, ``site/class/*.png`` are images. A name of a
            reader reads without looking.
        site_column: Column of the subject table that names the site.
        modalities: BIDS suffixes, in the order of the input channels; an entity may be part of it
            as ``ce-gadolinium_T1w``. Image folders have one modality of any name; in DICOM the name
            chooses the series.
        missing: What to do if a subject lacks a modality. ``zero`` gives a channel of zeros, marked
            as absent. ``skip`` leaves the subject out.
        sites: Sites to read; empty reads all.
        site: Site of all scans, where the source does not say (a hospital's own folder).
        key_column: Column of the subject tables that names a patient the same way at all sites,
            such as a keyed hash. Without it, image folders and DICOM trees number their patients
            by site: equal names at two sites are two patients.
        patient_pattern: Regular expression that fits a whole name of a subject. Its group 1 is the
            patient: ``(MR\d+)[A-Z]?`` makes ``MR024780B`` and ``MR024780D`` one patient. Other
            names stay as they are; ``""`` groups nothing.
        patient_key: Secret of the hash that stands for the patient number of a DICOM header, where
            no folder names the subject.
        series: Patterns that choose the DICOM series of a modality, as ``MODALITY=PATTERN``. The
            regular expression is searched in the series' description, protocol or folder; capitals
            do not matter. Without one, description and sequence parameters decide.
        patient_numbers: Whether the patient numbers of DICOM headers are compared with the folders.
            ``ignore`` uses the folders alone, as for pseudonyms that differ between visits.
        covariates: Columns of the subject table that the network reads beside the image. Numbers
            are ``COLUMN:CENTRE/SCALE``, such as ``age:50/20``: a centre and a scale that are public
            constants of the plan. Categories are ``COLUMN:LEVEL|LEVEL``, such as ``sex:F|M``. A
            missing number counts as the centre, and a flag beside it says that it is missing.
        drawn: Classes that a hospital draws in its label maps, where these are not all of
            ``target.classes``, as ``SITE:CLASS|CLASS``. Without ``SITE:`` it holds for all sites
            that are not named. What is not drawn counts neither as there nor as absent.
        visits: Sessions of a patient that are one example, the last ones in order of time. If a
            patient has fewer, the earlier ones count as missing. 1 takes each session by itself.
        visit_time: Column of the subject tables with the time of a session: an ISO date, or a
            number of days. ``""`` is BIDS's own column ``acq_time``.
    """

    path: str = ""
    layout: str = "auto"
    site_column: str = "site"
    modalities: tuple[str, ...] = ("T1w",)
    missing: Literal["zero", "skip"] = "zero"
    sites: tuple[str, ...] = ()
    site: str = ""
    key_column: str = ""
    patient_pattern: str = ""
    patient_key: str = "fedmri"
    series: tuple[str, ...] = ()
    patient_numbers: Literal["check", "ignore"] = "check"
    covariates: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()
    visits: int = 1
    visit_time: str = ""

    def __post_init__(self) -> None:
        require(self.visits >= 1, "source.visits", self.visits, "1 or more")
        pattern = self.patient_pattern
        want = "a regular expression with a group 1, or empty"
        require(not pattern or _n_groups(pattern) > 0, "source.patient_pattern", pattern, want)
        require(bool(self.modalities), "source.modalities", self.modalities, "one or more")
        is_unique = len(set(self.modalities)) == len(self.modalities)
        require(is_unique, "source.modalities", self.modalities, "each modality once")
        want = "MODALITY=PATTERN, of a modality in source.modalities and a regular expression"
        for text in self.series:
            require(self._is_pattern(text), "source.series", text, want)
        sites = [text.rpartition(":")[0].strip() for text in self.drawn]
        is_clear = len({*sites}) == len(sites) and all(map(_is_drawn, self.drawn))
        require(is_clear, "source.drawn", self.drawn, "each site once, as SITE:CLASS|CLASS")
        names = [covariate.name for covariate in self.declared]
        want = "each column once"
        require(len({*names}) == len(names), "source.covariates", self.covariates, want)

    @property
    def declared(self) -> tuple[Covariate, ...]:
        """The covariates, as they are encoded; with several visits their intervals come last."""
        intervals = map(Covariate, self.intervals)
        return (*map(Covariate.declared, self.covariates), *intervals)

    @property
    def channels(self) -> tuple[str, ...]:
        """Images of an example by name, in the order of the input channels, the last visit last."""
        if self.visits == 1:
            return self.modalities
        visits = range(1, self.visits + 1)
        return tuple(f"{name}{OF_VISIT}{n}" for n in visits for name in self.modalities)

    @property
    def intervals(self) -> tuple[str, ...]:
        """Columns that several visits become: years since the visit before, 0 for the first."""
        visits = range(1, self.visits + 1) if self.visits > 1 else ()
        return tuple(f"years_before_visit_{n}" for n in visits)

    def refuse_unfit(self, target: Target) -> None:
        """Refuse a target that is made of other images than those that are read (C03)."""
        there = self.modalities
        if isinstance(target, OfImages) and tuple(target.modalities) != there:
            found, want = ", ".join(target.modalities), ", ".join(there)
            fix = f"set 'target.modalities=[{','.join(there)}]'"
            raise ConfigError("C03", "setting target.modalities", found=found, want=want, fix=fix)

    def _is_pattern(self, text: str) -> bool:
        name, _, pattern = text.partition("=")
        try:
            re.compile(pattern)
        except re.error:
            return False
        return name in self.modalities and bool(pattern)


@dataclass(frozen=True)
class CheckConfig:
    """What the preflight refuses, and how much may be lost before it stops everything.

    Attributes:
        max_excluded: Share of a site's scans that may be left out; more stops the experiment.
        duplicates: What is done with byte and near duplicates: ``exclude`` keeps one copy by rule,
            ``refuse`` stops with the list, ``warn`` reports only.
        near_distance: Bits of the perceptual fingerprint that may differ between near duplicates.
        is_ct_excluded: Whether suspected CT images are left out rather than reported.
        spacing_factor: A spacing this many times above or below the site's median is reported.
        exclude: Subjects left out by hand, by name, or as ``site/name`` where sites share names.
        key: Secret of the keyed fingerprints, so that sites can compare them without images.
    """

    max_excluded: float = 0.2
    duplicates: Literal["exclude", "refuse", "warn"] = "refuse"
    near_distance: int = 8
    is_ct_excluded: bool = False
    spacing_factor: float = 2.0
    exclude: tuple[str, ...] = ()
    key: str = "fedmri"

    def __post_init__(self) -> None:
        require(0 <= self.max_excluded <= 1, "check.max_excluded", self.max_excluded, "0 to 1")
        require(0 <= self.near_distance <= 32, "check.near_distance", self.near_distance, "0 to 32")
        require(self.spacing_factor > 1, "check.spacing_factor", self.spacing_factor, "above 1")


@dataclass(frozen=True)
class SplitConfig:
    """Shares of a site's patients; the rest trains.

    Attributes:
        val: Share of the patients that validate during training.
        test: Share of the patients that are tested on when the training is over.
    """

    val: float = 0.15
    test: float = 0.25

    def __post_init__(self) -> None:
        require(0 <= self.val < 1, "split.val", self.val, "0 to below 1")
        require(0 <= self.test < 1, "split.test", self.test, "0 to below 1")
        want = "together below 1"
        require(self.val + self.test < 1, "split.val and split.test", self.val + self.test, want)


@dataclass(frozen=True)
class PrepareConfig:
    """Deterministic preparation of a scan, cached on disk.

    Attributes:
        dimension: ``3d`` volumes, ``2d`` slices, or ``2.5d`` slices with their neighbours as
            channels. Sources of 2D images are always ``2d``.
        spacing_mm: Voxel size to resample to; 0 keeps the scan's own.
        size: Pixels to resample to: two numbers for slices and pictures, three for volumes. 0 keeps
            an axis as it is; an empty list does nothing. Pixels become square, and the rest is air.
        shape: Size in voxels to crop or pad to, after resampling: three numbers for volumes, the
            last two of them for images. 0 keeps the scan's own size along that axis. Everything
            outside is lost: this is no resolution.
        scaling: Scale of the intensities. ``zscore`` uses mean and deviation inside the head.
            ``percentile`` maps 1 % and 99 % of the head to 0 and 1, and clips the rest. ``none``
            changes nothing. Only certain air is set to a constant.
        is_n4: Whether N4 bias field correction is run (SimpleITK).
        is_skull_stripped: Whether everything outside the brain is set to zero first.
        slice_axis: Axis that is sliced, 0 to 2 in canonical (RAS) orientation.
        n_slices: Slices wanted of each scan; 0 takes all.
        skip_first: Extracted slices left out at the start.
        skip_last: Extracted slices left out at the end.
        n_neighbours: Slices on each side that join a 2.5d slice.
    """

    dimension: Literal["3d", "2d", "2.5d"] = "3d"
    spacing_mm: float = 0.0
    size: tuple[int, ...] = ()
    shape: tuple[int, int, int] = (0, 0, 0)
    scaling: Literal["zscore", "percentile", "none"] = "zscore"
    is_n4: bool = False
    is_skull_stripped: bool = False
    slice_axis: int = 2
    n_slices: int = 0
    skip_first: int = 0
    skip_last: int = 0
    n_neighbours: int = 1

    def __post_init__(self) -> None:
        require(self.spacing_mm >= 0, "prepare.spacing_mm", self.spacing_mm, "0 or more")
        require(min(self.shape) >= 0, "prepare.shape", self.shape, "sizes of 0 or more")
        n_sizes = 3 if self.dimension == "3d" else 2
        want = f"no number, or {n_sizes} for {self.dimension}"
        require(len(self.size) in (0, n_sizes), "prepare.size", self.size, want)
        is_size = all(n == 0 or n >= 2 for n in self.size)
        require(is_size, "prepare.size", self.size, "0, or 2 and more")
        is_one = not (self.spacing_mm and any(self.size))
        require(is_one, "prepare.spacing_mm", self.spacing_mm, "0 where prepare.size is set")
        require(self.slice_axis in (0, 1, 2), "prepare.slice_axis", self.slice_axis, "0, 1 or 2")
        for name in ("n_slices", "skip_first", "skip_last"):
            value = getattr(self, name)
            require(value >= 0, f"prepare.{name}", value, "0 or more")
        require(self.n_neighbours >= 1, "prepare.n_neighbours", self.n_neighbours, "1 or more")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training examples; probabilities from 0 (never) to 1 (always).

    Attributes:
        affine: Rotation up to 10 degrees, scaling up to 10 %, shift up to 5 % of the image.
        elastic: Smooth bending, by up to 3 % of the image.
        flip: Left-right mirror image. Do not use it where a label names a side.
        noise: Gaussian noise, up to 5 % of the image's range.
        bias: Smooth shading, as a receiver coil gives.
        gamma: Another contrast, drawn for each modality.
        ghosting: Ghosts, as a patient who moves gives.
        mixup: Two patients' images are added by weight. Classification only.
        cutmix: A box of one patient's image replaces that of another. Classification only.
    """

    affine: float = 0.0
    elastic: float = 0.0
    flip: float = 0.0
    noise: float = 0.0
    bias: float = 0.0
    gamma: float = 0.0
    ghosting: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(0 <= value <= 1, f"augment.{name}", value, "0 to 1")


@dataclass(frozen=True)
class SampleConfig:
    """Which training examples a pass takes; by default each once.

    Attributes:
        foreground: Share of the examples that hold a class of the label map, in every batch. 0
            takes them as they come. A site without such examples gives the others.
        is_class_balanced: Whether a site gives each of its classes as often. The loss should not
            weigh the classes as well.
        patch: Voxels of the part of a volume that a step sees, as three numbers. Scoring goes over
            the whole volume by a sliding window. Empty takes whole volumes.
    """

    foreground: float = 0.0
    is_class_balanced: bool = False
    patch: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(0 <= self.foreground <= 1, "sample.foreground", self.foreground, "0 to 1")
        is_size = len(self.patch) in (0, 3) and all(n >= 1 for n in self.patch)
        require(is_size, "sample.patch", self.patch, "no number, or three of 1 and more")

    def refuse_unfit(self, target: Target, prepare: PrepareConfig) -> None:
        """Refuse to draw by what the target or its images do not have (C03)."""
        wrong = {
            "data.sample.foreground": self.foreground and target.answer != "voxel",
            "data.sample.is_class_balanced": self.is_class_balanced and target.n_groups == 1,
            "data.sample.patch": self.patch
            and (target.answer != "voxel" or prepare.dimension != "3d"),
        }
        if found := [name for name, is_wrong in wrong.items() if is_wrong]:
            raise ConfigError(
                "C03",
                f"setting {', '.join(found)}",
                found=f"a {target.title}, prepare.dimension={prepare.dimension}",
                want="label maps for foreground, classes to balance, 3d label maps for patches",
                fix=f"leave {', '.join(found)} out",
            )


@dataclass(frozen=True)
class DataConfig:
    """All that happens to scans between the folder and the network.

    Attributes:
        is_site_balanced: Whether a pass over data of several sites has each site as often.
        is_mirrored: Whether the mirror image, left to right, is scored and predicted on as well.
            The mean of both answers counts. It is slower by half, and no answer may name a side.
    """

    source: SourceConfig = field(default_factory=SourceConfig)
    check: CheckConfig = field(default_factory=CheckConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    is_site_balanced: bool = False
    is_mirrored: bool = False
