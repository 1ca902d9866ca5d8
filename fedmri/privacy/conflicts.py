"""Settings under which the guarantee of DP-SGD would not hold, refused by name."""

from __future__ import annotations

from fedmri.data.settings import AugmentConfig
from fedmri.errors import PrivacyError
from fedmri.privacy.settings import PrivacyConfig
from fedmri.training.settings import TaskConfig, TrainConfig


def refuse_conflicts(
    privacy: PrivacyConfig,
    train: TrainConfig,
    task: TaskConfig,
    augment: AugmentConfig,
    *,
    norm: str = "group",
) -> None:
    """Refuse what would let a patient's data out beside the noise.

    Args:
        privacy: Without noise, nothing is refused.
        train: Its schedule must not follow the training loss.
        task: Its loss must not count the site's classes.
        augment: Must not mix patients.
        norm: Normalisation layer of the network.

    Raises:
        PrivacyError: A setting does not go with it (P32).
    """
    if not privacy.is_on:
        return
    is_bad = {
        "augment.mixup": (augment.mixup > 0, "mixes two patients", "set it to 0"),
        "augment.cutmix": (augment.cutmix > 0, "mixes two patients", "set it to 0"),
        "task.loss": (
            task.loss == "weighted_ce",
            "weighs by counts of the site's patients, without noise",
            "set it to ce or focal",
        ),
        "train.schedule": (
            train.schedule == "plateau",
            "follows the training loss, which has no noise",
            "set it to constant or cosine",
        ),
        "model.norm": (
            norm == "batch",
            "batch mixes the patients of a step",
            "set it to group",
        ),
    }
    found = [(name, why, fix) for name, (is_set, why, fix) in is_bad.items() if is_set]
    if found:
        raise PrivacyError(
            "P32",
            f"differential privacy with {', '.join(name for name, _, _ in found)}",
            found="; ".join(f"{name} {why}" for name, why, _ in found),
            want="settings that look at one patient at a time",
            fix="; ".join(f"{name}: {fix}" for name, _, fix in found),
        )


SENDS_MORE = frozenset({"scaffold", "feddyn", "fednova"})
"""Strategies whose sites send something beside their update, which the noise does not cover."""


def refuse_unnoised(privacy: PrivacyConfig, strategy: str) -> None:
    """Refuse a strategy whose sites send more than the release that is noised for a hospital.

    Raises:
        PrivacyError: The strategy is one of those (P67).
    """
    if privacy.site.is_on and strategy in SENDS_MORE:
        raise PrivacyError(
            "P67",
            "noise for a whole hospital",
            found=f"strategy {strategy}, whose sites send more than their update",
            want="a strategy whose sites send their update alone",
            fix="set strategy=lgfedavg or fedavg, or privacy.site.noise_multiplier=0",
        )
