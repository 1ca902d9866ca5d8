"""Settings under which the guarantee of DP-SGD would not hold, refused by name."""

from __future__ import annotations

from fedmri.data.settings import AugmentConfig
from fedmri.errors import PrivacyError
from fedmri.privacy.settings import PrivacyConfig
from fedmri.training.settings import TrainConfig


def refuse_conflicts(
    privacy: PrivacyConfig,
    train: TrainConfig,
    augment: AugmentConfig,
) -> None:
    """Refuse what would let a patient's data out beside the noise.

    Args:
        privacy: Without noise, nothing is refused.
        train: Its schedule must not follow the training loss.
        augment: Must not mix patients.

    Raises:
        PrivacyError: A setting does not go with it (P32).
    """
    if not privacy.is_on:
        return
    is_bad = {
        "augment.mixup": (augment.mixup > 0, "mixes two patients", "set it to 0"),
        "augment.cutmix": (augment.cutmix > 0, "mixes two patients", "set it to 0"),
        "train.schedule": (
            train.schedule == "plateau",
            "follows the training loss, which has no noise",
            "set it to constant or cosine",
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
