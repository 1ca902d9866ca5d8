"""DICOM: headers, series, frames, and the volumes that they make."""
