"""Federated training on multi-site MRI.

Everything that a notebook needs stands here; the command line calls the same. Nothing heavy is
imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedmri.api.archive import DicomExchange, DicomPredictions, predict_dicom
    from fedmri.api.arrays import Sites
    from fedmri.api.claims import ClaimsCheck, lint_claims
    from fedmri.api.data import DataCheck, check_data
    from fedmri.api.example import example_data
    from fedmri.api.export import export_model
    from fedmri.api.grid.study_grid import StudyGrid
    from fedmri.api.parts import list_models
    from fedmri.api.privacy.site import SitePrivacyPlan, site_privacy_plan
    from fedmri.api.privacy.training import PrivacyPlan, privacy_plan
    from fedmri.api.result import StudyResult
    from fedmri.api.study import Study
    from fedmri.api.submission.bundle import bundle_run
    from fedmri.api.submission.comparing import compare_runs
    from fedmri.api.submission.grouping import scores_by_group
    from fedmri.api.tables import HarmonizedTable, TableHarmonizer, harmonize_table
    from fedmri.api.targets import (
        Classification,
        GaussianRegression,
        MultiLabel,
        Reconstruction,
        Regression,
        Segmentation,
        Survival,
    )
    from fedmri.claims import Claim, Need
    from fedmri.data.reader import Reader
    from fedmri.errors import FedmriError
    from fedmri.models.model import Model, Normed
    from fedmri.round import Strategy
    from fedmri.simulation.protocol import StudyProtocol
    from fedmri.strategies.averaging.fedavg import FedAvg
    from fedmri.tasks.task import Task
    from fedmri.trained import TrainedModel

__all__ = [
    "Claim",
    "ClaimsCheck",
    "Classification",
    "DataCheck",
    "DicomExchange",
    "DicomPredictions",
    "FedAvg",
    "FedmriError",
    "GaussianRegression",
    "HarmonizedTable",
    "Model",
    "MultiLabel",
    "Need",
    "Normed",
    "PrivacyPlan",
    "Reader",
    "Reconstruction",
    "Regression",
    "Segmentation",
    "SitePrivacyPlan",
    "Sites",
    "Strategy",
    "Study",
    "StudyGrid",
    "StudyProtocol",
    "StudyResult",
    "Survival",
    "TableHarmonizer",
    "Task",
    "TrainedModel",
    "bundle_run",
    "check_data",
    "compare_runs",
    "example_data",
    "export_model",
    "harmonize_table",
    "lint_claims",
    "list_models",
    "predict_dicom",
    "privacy_plan",
    "scores_by_group",
    "site_privacy_plan",
]

_HOMES = {
    "Claim": "claims",
    "ClaimsCheck": "api.claims",
    "Classification": "api.targets",
    "DataCheck": "api.data",
    "DicomExchange": "api.archive",
    "DicomPredictions": "api.archive",
    "FedAvg": "strategies.averaging.fedavg",
    "FedmriError": "errors",
    "GaussianRegression": "api.targets",
    "HarmonizedTable": "api.tables",
    "Model": "models.model",
    "MultiLabel": "api.targets",
    "Need": "claims",
    "Normed": "models.model",
    "PrivacyPlan": "api.privacy.training",
    "Reader": "data.reader",
    "Reconstruction": "api.targets",
    "Regression": "api.targets",
    "Segmentation": "api.targets",
    "SitePrivacyPlan": "api.privacy.site",
    "Sites": "api.arrays",
    "Strategy": "round",
    "Study": "api.study",
    "StudyGrid": "api.grid.study_grid",
    "StudyProtocol": "simulation.protocol",
    "StudyResult": "api.result",
    "Survival": "api.targets",
    "TableHarmonizer": "api.tables",
    "Task": "tasks.task",
    "TrainedModel": "trained",
    "bundle_run": "api.submission.bundle",
    "check_data": "api.data",
    "compare_runs": "api.submission.comparing",
    "scores_by_group": "api.submission.grouping",
    "example_data": "api.example",
    "export_model": "api.export",
    "harmonize_table": "api.tables",
    "lint_claims": "api.claims",
    "list_models": "api.parts",
    "predict_dicom": "api.archive",
    "privacy_plan": "api.privacy.training",
    "site_privacy_plan": "api.privacy.site",
}
"""Where each name is defined."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedmri' has no attribute {name!r}")
    return getattr(import_module(f"fedmri.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
