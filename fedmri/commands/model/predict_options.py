"""Options of `fedmri predict`: what is predicted on, how, and where results go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Inputs = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="INPUT...",
        help="NIfTI files, pictures, BIDS data sets, DICOM series, or folders of them.",
        show_default=False,
    ),
]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write to; it must be empty.")]
Modalities = Annotated[
    list[str] | None,
    typer.Option(
        "--modality",
        metavar="NAME=PATH",
        help="A file or DICOM folder of one scan, such as FLAIR=scan.nii.gz. Once a modality.",
        show_default=False,
    ),
]
HasProbabilities = Annotated[
    bool, typer.Option("--probabilities", help="Write the probability of each class too.")
]
IsCropped = Annotated[
    bool, typer.Option("--crop", help="Look at the field that training cropped to, and no more.")
]
DicomFolder = Annotated[
    Path | None,
    typer.Option(
        "--dicom",
        help="Folder for masks and numbers as DICOM too; inputs must be DICOM series.",
        show_default=False,
    ),
]
SourceUrl = Annotated[
    str,
    typer.Option(
        "--from", metavar="URL", help="DICOMweb to read a study from.", show_default=False
    ),
]
StudyUid = Annotated[
    str,
    typer.Option("--study", metavar="UID", help="Study to read, with --from.", show_default=False),
]
SeriesUids = Annotated[
    list[str] | None,
    typer.Option(
        "--series",
        metavar="UID",
        help="A series of the study; repeat for more. Default: all of MRI.",
        show_default=False,
    ),
]
TargetUrl = Annotated[
    str,
    typer.Option("--to", metavar="URL", help="DICOMweb to store results at.", show_default=False),
]
LoginFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--login",
        help="Private file with the login of one archive; repeat for another.",
        show_default=False,
    ),
]
PatientNumber = Annotated[
    str,
    typer.Option(
        "--patient",
        help="Number that the patient of the DICOM files must have.",
        show_default=False,
    ),
]
Unit = Annotated[
    str, typer.Option("--unit", help="Unit of a predicted value in DICOM, in UCUM: a for years.")
]
