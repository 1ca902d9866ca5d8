"""Which updates may enter the mean: the server trusts no site's arithmetic."""

from __future__ import annotations

from fedmri.errors import RoundError
from fedmri.round import Update, Weights


def check_update(update: Update, shared: Weights) -> None:
    """Raise RoundError where an update cannot be averaged.

    Args:
        update: What a site returned.
        shared: The entries that were sent to it.

    Raises:
        RoundError: Names, shapes or types differ (R03), or a value is not finite (R04).
    """
    if update.weights.keys() != shared.keys():
        odd = sorted(update.weights.keys() ^ shared.keys())
        raise _misfit(update.site, f"{len(odd)} names that differ, such as {odd[0]!r}")
    for name, value in update.weights.items():
        want = shared[name]
        if value.shape != want.shape or value.dtype != want.dtype:
            raise _misfit(update.site, f"{name} of {value.dtype} {tuple(value.shape)}")
        # One sum is a fifth of the cost of testing each value; only an odd sum needs the test.
        is_odd = value.is_floating_point() and not value.sum().isfinite()
        if is_odd and not value.isfinite().all():
            fix = "lower train.lr or set train.clip_grad_norm; look at that site's data"
            what = f"update of site {update.site}"
            found = f"NaN or infinity in {name}"
            raise RoundError("R04", what, found=found, want="finite numbers", fix=fix)


def _misfit(site: str, found: str) -> RoundError:
    fix = "run the same plan and version of fedmri at that site"
    want = "the entries that were sent"
    return RoundError("R03", f"update of site {site}", found=found, want=want, fix=fix)
