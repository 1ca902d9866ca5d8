"""Pictures of a prediction as a series of secondary captures, for viewers that read no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from highdicom import UID
from highdicom.sc import SCImage
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from fedmri.archive.origin import Origin
from fedmri.archive.source import Source

SERIES_NUMBER = 902
COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((213, 94, 0), (0, 114, 178), (204, 121, 167)),
)
"""Colours that people with any colour vision tell apart."""
OPACITY = 0.45
WINDOW = (1.0, 99.5)
"""Percentiles of a volume that are drawn black and white."""
WARNING = "RESEARCH ONLY - NOT FOR DIAGNOSIS"
PAGE = (512, 512)
PLACED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")

Picture = NDArray[np.uint8]


def overlay_captures(mask: NDArray[np.uint8], source: Source, origin: Origin) -> Iterator[SCImage]:
    """Yield each slice of a series in gray with the classes of a mask in colour.

    Args:
        mask: Classes from 0 (background), shape ``(X, Y, Z)``.
        source: The series.
        origin: The model.

    Source:
        DICOM PS3.3 A.8.1, Secondary Capture IOD; colours: Wong 2011, doi:10.1038/nmeth.1618.
    """
    volume = source.volume()
    low, high = np.percentile(volume, WINDOW)
    gray = np.clip((volume - low) / max(float(high - low), 1e-6), 0, 1) * 255
    series = UID()
    for number in range(mask.shape[2]):
        picture = _coloured(gray[:, :, number].T, mask[:, :, number].T)
        made = _capture(_warned(picture), number + 1, series, source, origin)
        if not (source.is_multi_frame or source.is_straightened):
            _place(made, source.headers[number])
        yield made


def text_capture(values: Mapping[str, str], source: Source, origin: Origin) -> SCImage:
    """Return a picture of a table of values, with what made it."""
    canvas = Image.new("RGB", PAGE)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(18)
    lines = [origin.name, f"weights {origin.fingerprint}", ""]
    lines += [f"{name}: {value}" for name, value in values.items()]
    for number, line in enumerate([*lines, "", WARNING]):
        draw.text((16, 16 + 26 * number), line, (255, 255, 255), font)
    return _capture(np.asarray(canvas), 1, UID(), source, origin)


def _coloured(gray: NDArray[np.floating], labels: NDArray[np.uint8]) -> Picture:
    picture = np.repeat(gray[:, :, None], 3, axis=2)
    for index in range(1, int(labels.max(initial=0)) + 1):
        colour = np.array(COLOURS[(index - 1) % len(COLOURS)])
        inside = labels == index
        picture[inside] = (1 - OPACITY) * picture[inside] + OPACITY * colour
    return picture.astype(np.uint8)


def _warned(picture: Picture) -> Picture:
    """Write the warning into a picture, as large as it has room for."""
    canvas = Image.fromarray(picture)
    font = ImageFont.load_default(max(6, canvas.width // 24))
    ImageDraw.Draw(canvas).text((2, 1), WARNING, (255, 255, 0), font)
    return np.asarray(canvas)


def _capture(picture: Picture, number: int, series: UID, source: Source, origin: Origin) -> SCImage:
    made = SCImage.from_ref_dataset(
        ref_dataset=source.first,
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),  # the one that follows may be oblique
        series_instance_uid=series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=UID(),
        instance_number=number,
        **origin.equipment,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )
    made.PatientOrientation = list(_directions(source.first))
    made.ConversionType, made.Laterality = "SYN", ""
    made.BurnedInAnnotation = "YES"  # the warning; nothing of a patient is drawn
    made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    made.DerivationDescription = f"{origin.name}, weights {origin.fingerprint}"
    made.FrameOfReferenceUID = source.first.FrameOfReferenceUID
    made.PositionReferenceIndicator = source.first.get("PositionReferenceIndicator", "")
    return made


def _place(made: SCImage, header: Dataset) -> None:
    """Say where a slice lies: viewers that link series by place then show it beside its own."""
    for name in PLACED:
        if name in header:
            setattr(made, name, getattr(header, name))
    reference = Dataset()
    reference.ReferencedSOPClassUID = header.SOPClassUID
    reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    made.SourceImageSequence = [reference]


def _directions(header: Dataset) -> tuple[str, str]:
    """Return the directions of rows and columns in letters, such as ``L`` and ``P``."""
    cosines = header.get("ImageOrientationPatient") or (1, 0, 0, 0, 1, 0)
    return _letters(cosines[:3]), _letters(cosines[3:])


def _letters(cosines: Sequence[float]) -> str:
    """Return a direction in letters, the strongest first; small parts are left out."""
    pairs = (("R", "L"), ("A", "P"), ("F", "H"))
    order = sorted(range(3), key=lambda axis: -abs(float(cosines[axis])))
    wanted = [axis for axis in order if abs(float(cosines[axis])) > 1e-3]
    return "".join(pairs[axis][float(cosines[axis]) > 0] for axis in wanted)
