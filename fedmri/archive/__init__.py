"""Results where radiologists look: DICOM objects of a prediction, and archives over DICOMweb."""
