"""Numbers of a prediction as a DICOM structured report (TID 1500, measurement report)."""

from __future__ import annotations

from collections.abc import Mapping

from highdicom import UID
from highdicom.seg import Segmentation
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForMeasurementGroup,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.sr.codedict import codes

from fedmri.archive.origin import MANUFACTURER, Origin, concept
from fedmri.archive.source import Source

SERIES_NUMBER = 901
MRI = CodedConcept(value="113091000", scheme_designator="SCT", meaning="MRI")
NO_UNITS = CodedConcept(value="1", scheme_designator="UCUM", meaning="no units")
MILLILITRE = CodedConcept(value="mL", scheme_designator="UCUM", meaning="milliliter")

Groups = list[
    MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations
]


def volume_report(
    volumes_ml: Mapping[str, float], mask: Segmentation, source: Source, origin: Origin
) -> ComprehensiveSR:
    """Return the volumes of a mask's classes, each of its segment.

    Args:
        volumes_ml: Millilitres by class, in the order of the segments.
        mask: The segmentation.
        source: The series.
        origin: The model.

    Source:
        DICOM PS3.16, TID 1500 and TID 1411.
    """
    groups: Groups = [
        VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracked(name),
            referenced_segment=ReferencedSegment(
                sop_class_uid=mask.SOPClassUID,
                sop_instance_uid=mask.SOPInstanceUID,
                segment_number=number,
                source_series=SourceSeriesForSegmentation(source.first.SeriesInstanceUID),
            ),
            finding_type=concept(name),
            algorithm_id=_algorithm(origin),
            measurements=[Measurement(codes.SCT.Volume, volume, MILLILITRE)],
        )
        for number, (name, volume) in enumerate(volumes_ml.items(), start=1)
    ]
    return _report(groups, source, origin, [mask])


def value_report(
    values: Mapping[str, float], best: str, source: Source, origin: Origin
) -> ComprehensiveSR:
    """Return the probability of each class and the likeliest one, or a predicted value.

    Args:
        values: Probability by class, or the value by the target's name.
        best: The likeliest class; ``""`` for a value.
        source: The series.
        origin: The model.

    Source:
        DICOM PS3.16, TID 1500 and TID 1501.
    """
    target = concept(origin.card.plan.target.name)
    unit = NO_UNITS if best or origin.unit == "1" else _unit(origin.unit)
    found = [QualitativeEvaluation(name=target, value=concept(best))] if best else None
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracked(origin.card.plan.target.name),
        finding_type=target,
        algorithm_id=_algorithm(origin),
        measurements=[Measurement(concept(name), value, unit) for name, value in values.items()],
        qualitative_evaluations=found,
        source_images=[SourceImageForMeasurementGroup.from_source_image(source.first)],
    )
    return _report([group], source, origin, [])


def _report(
    groups: Groups, source: Source, origin: Origin, more: list[Segmentation]
) -> ComprehensiveSR:
    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=origin.device,
            name=origin.name,
            manufacturer_name=MANUFACTURER,
            model_name=origin.name,
            serial_number=origin.fingerprint,
        ),
    )
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=MRI,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    return ComprehensiveSR(
        evidence=[*source.headers, *more],
        content=content,
        series_instance_uid=UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=UID(),
        instance_number=1,
        **origin.equipment,
    )


def _tracked(name: str) -> TrackingIdentifier:
    return TrackingIdentifier(uid=UID(), identifier=name[:64])


def _algorithm(origin: Origin) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=origin.name,
        version=origin.fingerprint,
        parameters=[f"weights SHA-256 {origin.card.sha256}"],
    )


def _unit(code: str) -> CodedConcept:
    return CodedConcept(value=code, scheme_designator="UCUM", meaning=code)
