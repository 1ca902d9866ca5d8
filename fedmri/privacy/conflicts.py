"""Settings under which the guarantee of DP-SGD would not hold, refused by name."""

from __future__ import annotations

from fedmri.data.settings import DataConfig
from fedmri.errors import PrivacyError
from fedmri.privacy.settings import PrivacyConfig
from fedmri.training.settings import TrainConfig


def refuse_conflicts(
    privacy: PrivacyConfig,
    train: TrainConfig,
    data: DataConfig,
) -> None:
    """Refuse what would let a patient's data out beside the noise.

    Args:
        privacy: Without noise, nothing is refused.
        train: Its schedule must not follow the training loss.
        data: Must not mix patients, nor draw them by what is known of them.

    Raises:
        PrivacyError: A setting does not go with it (P32).
    """
    if not privacy.is_on:
        return
    by_answer = "draws patients by their answers, where each must be as likely"
    is_bad = {
        "augment.mixup": (data.augment.mixup > 0, "mixes two patients", "set it to 0"),
        "augment.cutmix": (data.augment.cutmix > 0, "mixes two patients", "set it to 0"),
        "data.sample.foreground": (data.sample.foreground > 0, by_answer, "set it to 0"),
        "data.sample.is_class_balanced": (
            data.sample.is_class_balanced,
            by_answer,
            "set it to false",
        ),
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
