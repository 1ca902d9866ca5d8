"""A site's limits on plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fedmri.clients.consent.policy import SitePolicy, violations
from fedmri.errors import ConfigError
from fedmri.plan import Plan
from fedmri.tasks.kinds.regression import Regression

PLAN = Plan(Regression("age"))


def test_a_new_site_sets_no_limit_on_plans_of_enough_patients() -> None:
    """The defaults ask for patients and nothing else."""
    assert violations(SitePolicy(), PLAN, 5) == []


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"tasks": ("segmentation",)}, "task regression is not one of segmentation"),
        ({"models": ("unet", "resnet18")}, "network cnn5 is not one of unet, resnet18"),
        ({"max_rounds": 19}, "20 rounds are more than 19"),
        ({"max_epsilon": 8.0}, "without differential privacy the privacy loss has no bound"),
        ({"max_clip_grad_norm": 0.5}, "gradients are clipped at 1, must be at 0.5 or below"),
        ({"min_subjects_train": 6}, "5 patients train, fewer than 6"),
    ],
)
def test_each_limit_is_said(limits: dict[str, Any], said: str) -> None:
    """A plan beyond one limit is told by that one, and by the setting to change."""
    (found,) = violations(SitePolicy(**limits), PLAN, 5)
    assert found.startswith(said)
    assert f"(policy.{next(iter(limits))})" in found


@pytest.mark.parametrize(
    "limits",
    [
        {"tasks": ("segmentation", "regression")},
        {"models": ("cnn5",)},
        {"max_rounds": 20},
        {"max_clip_grad_norm": 1.0},
        {"min_subjects_train": 5},
    ],
)
def test_the_limit_itself_is_allowed(limits: dict[str, Any]) -> None:
    """A plan that just keeps to a limit may run."""
    assert violations(SitePolicy(**limits), PLAN, 5) == []


def test_no_clipping_is_beyond_any_bound() -> None:
    """A plan writes 0 where it does not clip: that is no small norm."""
    plan = replace(PLAN, train=replace(PLAN.train, clip_grad_norm=0.0))
    (found,) = violations(SitePolicy(max_clip_grad_norm=100), plan)
    assert found.startswith("gradients are not clipped")


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_subjects_train": 0},
        {"min_subjects_reported": 0},
        {"max_rounds": -1},
        {"max_epsilon": -0.1},
        {"max_update_norm": -1.0},
        {"max_leakage": 1.1},
        {"leakage_every": 0},
        {"leakage_steps": 0},
        {"tasks": ("ranking",)},
        {"models": ("",)},
        {"approved": ("abc",)},
    ],
)
def test_a_policy_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    """A limit that was mistyped must not pass for one that was set."""
    with pytest.raises(ConfigError, match=rf"policy\.{next(iter(wrong))}.*\[C01\]"):
        SitePolicy(**wrong)
