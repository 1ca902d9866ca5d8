"""Which updates may enter the mean: the server trusts no site's arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from fedmri.errors import RoundError
from fedmri.round import ExtraForms, Form, Update, Weights

MOST_EXAMPLES = 1000
"""Examples that one patient can stand for: the slices of several scans, and room to spare."""


@dataclass(frozen=True)
class Bounds:
    """How large an update may be.

    Attributes:
        parameters: Names of the trainable parameters; statistics of batch norm may grow freely.
        max_norm: Largest L2 norm of the parameters together.
        n_examples: Largest count of examples that the site may claim; 0 bounds nothing.
        n_subjects: Largest count of patients that it may claim; 0 bounds nothing.
        extra: What must come beside the weights.
    """

    parameters: frozenset[str]
    max_norm: float = math.inf
    n_examples: int = 0
    extra: ExtraForms = field(default_factory=dict)
    n_subjects: int = 0


def _norm(value: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(value))


def check_update(update: Update, shared: Weights, bounds: Bounds) -> None:
    """Raise RoundError where an update cannot be averaged.

    Args:
        update: What a site returned.
        shared: The entries that were sent to it.
        bounds: How large it may be.

    Raises:
        RoundError: Names, shapes or types differ (R03), a value is not finite (R04), the
            parameters are far larger than those that were sent (R41), or the site claims more
            patients or examples than it declared (R42).
    """
    _check_counts(update, bounds)
    _check_extra(update, bounds.extra)
    if update.weights.keys() != shared.keys():
        odd = sorted(update.weights.keys() ^ shared.keys())
        raise _misfit(update.site, f"{len(odd)} names that differ, such as {odd[0]!r}")
    norms = []
    for name, value in update.weights.items():
        want = shared[name]
        if value.shape != want.shape or value.dtype != want.dtype:
            raise _misfit(update.site, f"{name} of {value.dtype} {tuple(value.shape)}")
        if not value.is_floating_point():
            continue
        # One norm is a fraction of the cost of testing each value; only an odd one needs the test.
        size = _norm(value)
        if not math.isfinite(size) and not value.isfinite().all():
            raise _not_finite(update.site, name)
        norms += [size] if name in bounds.parameters else []
    _check_norm(update.site, math.hypot(*norms), bounds.max_norm)


def _check_counts(update: Update, bounds: Bounds) -> None:
    """Hold a site to what it declared: its weight in the mean is bounded by that."""
    declared = [
        ("examples", "--max-examples", update.n_examples, bounds.n_examples),
        ("patients", "--max-patients", update.n_subjects, bounds.n_subjects),
    ]
    for what, option, found, most in declared:
        if most and found > most:
            call = f"fedmri server limit {update.site} {option} {found}"
            raise _too_many(update.site, what, (found, f"the {most} that it declared"), call)
    derived = MOST_EXAMPLES * bounds.n_subjects
    if derived and not bounds.n_examples and update.n_examples > derived:
        call = f"fedmri server limit {update.site} --max-examples {update.n_examples}"
        most_of = f"{derived}, {MOST_EXAMPLES} for each patient that it declared"
        raise _too_many(update.site, "examples", (update.n_examples, most_of), call)


def _too_many(site: str, what: str, numbers: tuple[int, str], call: str) -> RoundError:
    found, most = numbers
    fix = f"ask the site what changed; if the number is right, call `{call}`, and the run heeds it"
    what = f"{what} of site {site}"
    return RoundError("R42", what, found=str(found), want=f"at most {most}", fix=fix)


def _check_extra(update: Update, forms: ExtraForms) -> None:
    if update.extra.keys() != forms.keys():
        odd = sorted(update.extra.keys() ^ forms.keys())
        raise _misfit(update.site, f"{len(odd)} records beside the model, such as {odd[0]!r}")
    for record, values in update.extra.items():
        if values.keys() != forms[record].keys():
            raise _misfit(update.site, f"other entries in {record}")
        for name, value in values.items():
            if Form(value.dtype, tuple(value.shape)) != forms[record][name]:
                found = f"{record} {name} of {value.dtype} {tuple(value.shape)}"
                raise _misfit(update.site, found)
            if value.is_floating_point() and not value.isfinite().all():
                raise _not_finite(update.site, f"{record} {name}")


def _not_finite(site: str, name: str) -> RoundError:
    fix = "lower train.lr or set train.clip_grad_norm; look at that site's data"
    what, found = f"update of site {site}", f"NaN or infinity in {name}"
    return RoundError("R04", what, found=found, want="finite numbers", fix=fix)


def _check_norm(site: str, found: float, most: float) -> None:
    if found > most:
        fix = "look at that site's data and log; raise rounds.max_norm_ratio if it is right"
        what, want = f"norm of the update of site {site}", f"at most {most:.3g}"
        raise RoundError("R41", what, found=f"{found:.3g}", want=want, fix=fix)


def _misfit(site: str, found: str) -> RoundError:
    fix = "run the same plan and version of fedmri at that site"
    want = "the entries that were sent"
    return RoundError("R03", f"update of site {site}", found=found, want=want, fix=fix)
