"""Options of `fedmri predict` about DICOM: where series come from, and where results go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
