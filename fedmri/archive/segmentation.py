"""A mask as a DICOM Segmentation on the slices of its series."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from highdicom import (
    UID,
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
)
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from pydicom.sr.codedict import codes

from fedmri.archive.origin import Origin, concept
from fedmri.archive.source import Source
from fedmri.data.dicom.stack import LPS_TO_RAS
from fedmri.data.preparation.geometry import Grid

SERIES_NUMBER = 900


class _Places(NamedTuple):
    """Where slices lie, as DICOM says it."""

    measures: PixelMeasuresSequence
    orientation: PlaneOrientationSequence
    positions: list[PlanePositionSequence]


def segmentation(mask: np.ndarray, grid: Grid, source: Source, origin: Origin) -> Segmentation:
    """Return a mask as a binary DICOM Segmentation, a segment for each class.

    The frames lie exactly where the slices of the series do. Where slices were straightened, they
    lie on the straightened grid, in the same frame of reference.

    Args:
        mask: Classes from 0 (background), uint8, shape ``(X, Y, Z)``.
        grid: Where its voxels lie.
        source: The series.
        origin: The model.

    Source:
        DICOM PS3.3 A.51, Segmentation IOD.
    """
    places = _places(grid) if source.is_straightened else None  # else those of the slices
    return Segmentation(
        source_images=source.headers,
        pixel_array=source.planes(mask),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=_segments(origin),
        series_instance_uid=UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=UID(),
        instance_number=1,
        content_label="FEDMRI",
        content_description=origin.description,
        **origin.equipment,
        pixel_measures=places and places.measures,
        plane_orientation=places and places.orientation,
        plane_positions=places and places.positions,
    )


def _segments(origin: Origin) -> list[SegmentDescription]:
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=concept(name),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=origin.algorithm,
            tracking_uid=UID(),
            tracking_id=name[:64],
        )
        for number, name in enumerate(_classes(origin), start=1)
    ]


def _classes(origin: Origin) -> tuple[str, ...]:
    labels = origin.card.plan.target.label_map
    return () if labels is None else labels.classes


def _places(grid: Grid) -> _Places:
    """Return where each slice of a grid lies, as DICOM says it."""
    affine = LPS_TO_RAS @ np.array(grid.affine)
    columns, rows, step = (affine[:3, axis] for axis in range(3))
    across, down = float(np.linalg.norm(columns)), float(np.linalg.norm(rows))
    thickness = float(np.linalg.norm(step))
    return _Places(
        PixelMeasuresSequence((down, across), thickness, thickness),
        PlaneOrientationSequence("PATIENT", [*(columns / across), *(rows / down)]),
        [
            PlanePositionSequence("PATIENT", [*(affine[:3, 3] + number * step)])
            for number in range(grid.shape[2])
        ],
    )
