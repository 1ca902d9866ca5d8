"""Federated training on multi-site MRI.

Everything that a notebook needs stands here; the command line calls the same. Nothing heavy is
imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedmri.api.result import StudyResult
    from fedmri.api.study import Study
    from fedmri.api.targets import Classification, Regression, Segmentation
    from fedmri.claims import Claim, Need
    from fedmri.data.reader import Reader
    from fedmri.errors import FedmriError
    from fedmri.models.model import Model, Normed
    from fedmri.round import Strategy, Target
    from fedmri.simulation.protocol import StudyProtocol
    from fedmri.strategies.averaging.fedavg import FedAvg

__all__ = [
    "Claim",
    "Classification",
    "FedAvg",
    "FedmriError",
    "Model",
    "Need",
    "Normed",
    "Reader",
    "Regression",
    "Segmentation",
    "Strategy",
    "Study",
    "StudyProtocol",
    "StudyResult",
    "Target",
]

_HOMES = {
    "Claim": "claims",
    "Classification": "api.targets",
    "FedAvg": "strategies.averaging.fedavg",
    "FedmriError": "errors",
    "Model": "models.model",
    "Need": "claims",
    "Normed": "models.model",
    "Reader": "data.reader",
    "Regression": "api.targets",
    "Segmentation": "api.targets",
    "Strategy": "round",
    "Study": "api.study",
    "StudyProtocol": "simulation.protocol",
    "StudyResult": "api.result",
    "Target": "round",
}
"""Where each name is defined."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedmri' has no attribute {name!r}")
    return getattr(import_module(f"fedmri.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
