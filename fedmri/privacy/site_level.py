"""Noise that hides a whole hospital in what it releases; useful for few numbers alone.

The unit is **one hospital**, by leaving out its data: what it releases in a round (the change of
the entries that it shares) is clipped to an L2 norm and noised before it leaves. Each round is one
step of the Gaussian mechanism, with every hospital in it. The noise of a vector grows with the root
of its length while the signal stays below the norm, so vectors of more than ten thousand numbers
are refused.

Where only the sum over hospitals is seen (secure aggregation), each needs to add only a share of
the noise: ``n_shares`` hospitals with variance ``1 / n_shares`` each make the whole. Of those that
stay away the noise is missing, and whoever adds noise knows its own: the account is therefore kept
of a hospital's own share, which holds against everybody; ``sum_noise`` says what the sum has.

Source:
    Dwork and Roth 2014, doi:10.1561/0400000042, appendix A (Gaussian mechanism); McMahan, Ramage,
    Talwar and Zhang 2018, arXiv:1710.06963 (clipping and noising the update of a participant).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from fedmri.errors import PrivacyError
from fedmri.privacy.accounting import Steps
from fedmri.privacy.settings import SiteNoiseConfig
from fedmri.privacy.stream import Noise
from fedmri.round import Layout, Weights


def own_noise(config: SiteNoiseConfig) -> float:
    """Return the noise multiplier of one hospital's release by itself."""
    return config.noise_multiplier / math.sqrt(config.n_shares)


def sum_noise(config: SiteNoiseConfig, n_answered: int, n_known: int = 0) -> float:
    """Return the noise multiplier of the sum of several hospitals' releases.

    Args:
        config: Noise of the whole and number of shares.
        n_answered: Hospitals in the sum; those that stayed away left their noise out.
        n_known: Hospitals of them that pass their noise on to the one who looks at the sum.
    """
    return own_noise(config) * math.sqrt(max(0, n_answered - n_known))


def round_cost(config: SiteNoiseConfig) -> Steps:
    """Return what a release costs the hospital: one step in which it takes part for sure."""
    return Steps(own_noise(config), 1.0, 1)


def mean_error(noise_multiplier: float, n_values: int, n_sites: int, *, is_shared: bool) -> float:
    """Return the expected L2 norm of the noise on the mean over hospitals, over the clip norm.

    The mean of what they release is 1 at most in the same unit, so from 1 on noise prevails.

    Args:
        noise_multiplier: Of the sum, or of each release.
        n_values: Numbers of a release.
        n_sites: Hospitals that weigh the same.
        is_shared: Whether each adds a share of the noise, since the sum alone is seen; else each
            adds all of it.
    """
    per_value = noise_multiplier / (n_sites if is_shared else math.sqrt(n_sites))
    # the mean of a chi distribution, close to the root of n
    log_mean = math.lgamma((n_values + 1) / 2) - math.lgamma(n_values / 2) + math.log(2) / 2
    return per_value * math.exp(log_mean) if n_values else 0.0


def noised(released: Mapping[str, torch.Tensor], config: SiteNoiseConfig, stream: Noise) -> Weights:
    """Return a release after clipping and noise: a change of weights, or sums.

    All floating-point entries together are one vector. Values that are not finite make it zero, as
    the noise must be the same whatever the data. Integers (counts of batches) pass as they are.

    Args:
        released: What is about to leave, by name.
        config: Clip norm and noise.
        stream: Of this release and no other.
    """
    floats = {n: released[n].double() for n in sorted(released) if _is_noised(released[n])}
    norm = math.hypot(*(float(torch.linalg.vector_norm(value)) for value in floats.values()))
    factor = min(1.0, config.clip_norm / norm) if norm > 0 else 1.0
    std = own_noise(config) * config.clip_norm
    after = dict(released)
    for name, value in floats.items():
        kept = value * factor if math.isfinite(norm) else torch.zeros_like(value)
        noise = torch.from_numpy(stream.normal(value.numel())).view_as(value)
        after[name] = (kept + std * noise).to(released[name].dtype)
    return after


def noised_weights(
    trained: Weights, received: Weights, config: SiteNoiseConfig, stream: Noise
) -> Weights:
    """Return trained weights whose change from the received ones is clipped and noised."""
    change = {
        name: value.double() - received[name].double() if _is_noised(value) else value
        for name, value in trained.items()
    }
    after = noised(change, config, stream)
    floats = {name for name, value in trained.items() if _is_noised(value)}
    moved = {n: (received[n].double() + after[n]).to(trained[n].dtype) for n in floats}
    return {name: moved.get(name, value) for name, value in trained.items()}


def refuse_large(config: SiteNoiseConfig, shared: Weights, layout: Layout) -> None:
    """Refuse a plan whose releases noise would drown, or that noise would break.

    Args:
        config: Without noise, nothing is refused.
        shared: Entries that leave the site.
        layout: Which of them are batch norm's statistics.

    Raises:
        PrivacyError: More numbers are shared than ``max_values`` (P66), or statistics of batch norm
            are, which noise makes negative (P67).
    """
    if not config.is_on:
        return
    n_values = sum(value.numel() for value in shared.values() if _is_noised(value))
    if n_values > config.max_values:
        error = mean_error(own_noise(config), n_values, 1, is_shared=False)
        raise PrivacyError(
            "P66",
            f"noise for a whole hospital on {n_values:,} numbers",
            found=f"noise of {error:,.3g} times the clip norm on each release, where the signal is "
            "at most 1; on a mean it is divided by the root of the number of hospitals",
            want=f"{config.max_values:,} numbers or fewer",
            fix="share the last layer alone (strategy=lgfedavg), or protect patients instead "
            "(privacy.noise_multiplier)",
        )
    if layout.norm_statistics & shared.keys():
        raise PrivacyError(
            "P67",
            "noise for a whole hospital",
            found="shared statistics of batch norm",
            want="entries that may take any value, because a noised variance can become negative",
            fix="set model.norm=group, or strategy=lgfedavg",
        )


def _is_noised(value: torch.Tensor) -> bool:
    return value.is_floating_point()
