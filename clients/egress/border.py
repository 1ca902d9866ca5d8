"""The border: the only door through which anything leaves a site.

What is declared may leave and nothing else: the entries of the model that the plan shares, of the
shapes and types that the site was sent; two counts; metrics by name, over enough patients; of an
error its code. What leaves is written anew from what was looked at, so that nothing rides along,
and it is in the site's ledger before it is handed over.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

from fedmri.clients.consent.policy import SitePolicy
from fedmri.clients.consent.refusal import RunRefusedError
from fedmri.clients.egress.audit import AT_LEAST
from fedmri.clients.egress.ledger import Egress, Ledger
from fedmri.errors import CODES, FedmriError, PrivacyError
from fedmri.plan import Plan
from fedmri.round import Form, Layout, Weights
from fedmri.wire import (
    ADAPTED,
    EXTRA,
    KEYS,
    METRICS,
    MODEL,
    ORDER,
    SCORES,
    SUMS,
    TRAIN_METRICS,
    UPDATE,
    LazyArray,
    MalformedError,
    MessageKind,
    UndeclaredError,
    as_plain_record,
    metrics_of,
    plain_fields,
    with_reason,
)

log = logging.getLogger("fedmri.client")

EXACT = frozenset({"n_steps", "n_seen", "n_skipped", "epsilon", "delta", "site_epsilon", ADAPTED})
"""Metrics that leave as they are: counts of steps, and what was spent."""
NUMPY = "numpy.ndarray"
PUBLIC = re.compile(r"[a-z]+ error ([A-Z]\d\d)")
UNEXPLAINED = "round error R05"


@dataclass(frozen=True)
class Declared:
    """What one answer may hold.

    Attributes:
        kind: Kind of answer: the records and plain fields that it has.
        metrics: Names that metrics may have.
        arrays: Type and shape of each entry, by array record; empty where there is none.
        are_counts_told: Whether counts leave; a secure sum hides them with the values.
        ranges: Range of a metric, where it has one: what is beyond it leaves as its end.
    """

    kind: MessageKind[Any]
    metrics: frozenset[str]
    arrays: Mapping[str, Mapping[str, Form]] = field(default_factory=dict)
    are_counts_told: bool = True
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def declared_update(
    received: Weights, forms: Mapping[str, Form], plan: Plan, entries: Layout
) -> Declared:
    """Return what the answer to an order to train may hold.

    Args:
        received: The weights that were sent.
        forms: Type and shape of the weights that leave.
        plan: Its strategy may send more.
        entries: Which entries of the model are what.
    """
    told = not plan.secagg.is_on  # under masks, what is beside the model is in the one vector
    declared = plan.strategy.extra_forms(received, entries) if told else {}
    extra = {f"{EXTRA}{name}": forms for name, forms in declared.items()}
    return Declared(UPDATE, TRAIN_METRICS, {MODEL: forms, **extra}, are_counts_told=told)


def declared_sums(forms: Mapping[str, Form], *, are_counts_told: bool = True) -> Declared:
    """Return what the answer to an order for sums may hold."""
    return Declared(SUMS, frozenset(), {SUMS.name: forms}, are_counts_told)


def declared_keys(forms: Mapping[str, Form]) -> Declared:
    """Return what the answer to a step of a secure sum may hold, besides the values."""
    return Declared(KEYS, frozenset(), {KEYS.name: forms}, are_counts_told=False)


@lru_cache(maxsize=8)
def declared_scores(plan: Plan) -> Declared:
    """Return what the answer to an order to evaluate may hold."""
    names = {"loss", "seconds", ADAPTED, *plan.target.reported}
    if plan.privacy.is_audited:
        names.add(AT_LEAST)
    return Declared(SCORES, frozenset(names), ranges=plan.target.ranges)


@dataclass(frozen=True)
class Limits:
    """Patients that must be behind what leaves; 0 sets no limit.

    Attributes:
        n_update: Behind an update; below it the update stays.
        n_reported: Behind metrics; below it they stay, and scores say nothing of the patients.
        digits: Significant digits of a score or loss: a mean over patients carries no pixel.
    """

    n_update: int = 0
    n_reported: int = 0
    digits: int = SitePolicy.score_digits


@dataclass(frozen=True)
class Border:
    """The border of a site in a run.

    Attributes:
        site: Name of the site, for its own log.
        limits: The site's own limits.
        ledger: Where each message is written down; None in a simulation, where nothing leaves the
            machine and arrays are handed over as they are.
        plan: Content hash of the plan.
        run: Name of the run.
    """

    site: str
    limits: Limits = Limits()
    ledger: Ledger | None = None
    plan: str = ""
    run: str = ""

    def admit(self, content: RecordDict, allowed: Declared, round_index: int) -> RecordDict:
        """Return what may leave of an answer, written anew and down in the ledger.

        Raises:
            PrivacyError: A record, an entry or a metric is not declared (P01), or is not of the
                declared type, shape or format (P02); too few patients are behind an update (P03);
                the ledger cannot be written (P05 to P07).
        """
        counts, metrics = _read(content, allowed)
        n_subjects = counts["n_subjects"]
        if allowed.arrays and n_subjects < self.limits.n_update:
            raise _too_few(n_subjects, self.limits.n_update)
        if n_subjects < self.limits.n_reported:
            metrics = {}
            counts = counts if allowed.arrays else dict.fromkeys(counts, 0)
        if not allowed.are_counts_told:
            counts = dict.fromkeys(counts, 0)
        digits, ranges = self.limits.digits, allowed.ranges
        metrics = {
            name: value if name in EXACT else rounded(value, digits, ranges.get(name))
            for name, value in metrics.items()
        }
        leaving = RecordDict()
        for name, forms in allowed.arrays.items():
            leaving[name] = _arrays(name, content[name], forms, is_anew=self.ledger is not None)
        leaving[ORDER] = as_plain_record(counts)
        if allowed.kind.has_metrics:
            leaving[METRICS] = MetricRecord(dict(metrics))
        if self.ledger is not None:
            self.ledger.append(self._egress(leaving, allowed.kind.name, round_index))
        return leaving

    def admit_error(self, error: Exception, round_index: int | None) -> str:
        """Return what may be told of an error: its code. Its text stays in the site's log.

        Why people here refuse a run goes with it where the site's policy says so.
        """
        public = public_of(error)
        if isinstance(error, RunRefusedError):
            public = with_reason(public, error.reason)
        if public == UNEXPLAINED:
            log.error("site %s failed", self.site, exc_info=error)
        else:
            log.error("site %s: %s", self.site, error)
        if self.ledger is not None:
            content = public.encode()
            digest, what = sha256(content).hexdigest(), (public,)
            entry = Egress(self.plan, self.run, round_index, "error", len(content), digest, what)
            try:
                self.ledger.append(entry)
            except PrivacyError as broken:
                # The server must learn why this site is silent: a code is all that goes unrecorded.
                log.error("site %s: %s", self.site, broken)
                return public_of(broken)
        return public

    def _egress(self, leaving: RecordDict, kind: str, round_index: int) -> Egress:
        digest, n_bytes = digest_of(leaving)
        return Egress(self.plan, self.run, round_index, kind, n_bytes, digest, _in_words(leaving))


def rounded(value: float, digits: int, span: tuple[float, float] | None = None) -> float:
    """Return a metric as it may leave: within its range, of few digits, and no finer than its grid.

    Args:
        value: The metric; NaN stays.
        digits: Significant digits.
        span: Its range. The grid has ``10**(digits + 1)`` steps over it, for digits after many
            zeros would carry as much as those that were cut.
    """
    if not math.isfinite(value):
        return value
    if span is not None:
        low, high = span
        step = (high - low) / 10 ** (digits + 1)
        value = low + round((min(max(value, low), high) - low) / step) * step
    return float(f"{value:.{digits}g}")


def bits_of(digits: int) -> float:
    """Return how many bits a metric of so many digits can carry at most; see ``rounded``."""
    return math.log2(10 ** (digits + 1) + 1)


def public_of(error: Exception) -> str:
    """Return the kind and code of an error of fedmri; of any other that the site failed."""
    public = error.public if isinstance(error, FedmriError) else ""
    match = PUBLIC.fullmatch(public)
    return public if match and match[1] in CODES else UNEXPLAINED


def digest_of(content: RecordDict) -> tuple[str, int]:
    """Return the SHA-256 of what leaves, and its size in bytes.

    Both sides can compute it: it is that of the JSON, with sorted keys and no spaces, of
    ``{record: {entry: value}}``, where the value of an array is the SHA-256 of its ``.npy`` bytes
    and a number that is not finite is null.
    """
    values: dict[str, dict[str, Any]] = {}
    n_bytes = 0
    for name, record in content.items():
        values[name] = {}
        for key, value in record.items():
            if isinstance(value, Array):
                data = value.data
                values[name][key] = sha256(data).hexdigest()
                n_bytes += len(data)
            else:
                is_odd = isinstance(value, float) and not math.isfinite(value)
                values[name][key] = None if is_odd else value
                n_bytes += len(json.dumps(value))
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(text.encode()).hexdigest(), n_bytes


def _arrays(what: str, record: object, forms: Mapping[str, Form], *, is_anew: bool) -> ArrayRecord:
    """Return an array record, checked; as plain ``.npy`` bytes where it leaves the machine."""
    if not isinstance(record, ArrayRecord):
        raise _odd(f"record {what}", type(record).__name__, "an array record")
    _require_names(f"entries of the {what}", record.keys(), forms.keys())
    for name, array in record.items():
        if array.stype != NUMPY:
            raise _odd(f"entry {name}", f"format {array.stype}", NUMPY)
        _require_form(name, array.dtype, tuple(array.shape), forms[name])
    if not is_anew:
        return record
    leaving = ArrayRecord()
    for name, array in record.items():
        leaving[name] = _anew(name, array, forms[name])
    return leaving


def _anew(name: str, array: Array, form: Form) -> Array:
    """Return an array that turns into ``.npy`` bytes of its values and of nothing else."""
    try:
        values = np.asarray(array.numpy(), order="C")
    except (TypeError, ValueError, EOFError, OSError) as error:
        raise _odd(f"entry {name}", type(error).__name__, "numbers in .npy format") from error
    _require_form(name, str(values.dtype), values.shape, form)
    return LazyArray(values)


def _require_form(name: str, dtype: str, shape: tuple[int, ...], form: Form) -> None:
    want = str(form.dtype).removeprefix("torch."), form.shape
    if (dtype, shape) != want:
        raise _odd(f"entry {name}", f"{dtype} {shape}", f"{want[0]} {want[1]}")


def _read(content: RecordDict, allowed: Declared) -> tuple[dict[str, int], dict[str, float]]:
    """Return the counts and metrics of an answer, once all of it is what is declared."""
    kind = allowed.kind
    own = {METRICS} if kind.has_metrics else set()
    _require_names("records", content.keys(), {ORDER, *own, *allowed.arrays})
    metrics: dict[str, float] = {}
    try:
        counts: dict[str, int] = plain_fields(kind, content)
        if kind.has_metrics:
            metrics = metrics_of(content, allowed.metrics)
    except UndeclaredError as error:
        raise _undeclared(f"{kind.name} answer", [str(error)]) from error
    except MalformedError as error:
        raise _odd(f"{kind.name} answer", str(error), "the declared fields") from error
    # an infinity or a loaded NaN is as good as a message: either is a plain NaN
    return counts, {n: v if math.isfinite(v) else math.nan for n, v in metrics.items()}


def _in_words(content: RecordDict) -> tuple[str, ...]:
    """Return the records that leave, readable: of arrays how many, of the others their values."""
    said = []
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            said.append(f"{name}: {len(record)} arrays")
        elif isinstance(record, MetricRecord):
            said.append(f"{name}: {' '.join(f'{k}={v:.6g}' for k, v in record.items())}")
        else:
            said.append(f"{name}: {' '.join(str(value) for value in record.values())}")
    return tuple(said)


def _require_names(what: str, found: Any, wanted: Any) -> None:
    strays, missing = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    if strays:
        raise _undeclared(what, strays)
    if missing:
        found_text = f"{len(missing)} missing, such as {missing[0]!r}"
        raise _odd(what, found_text, "all that are declared")


def _undeclared(what: str, strays: list[str]) -> PrivacyError:
    found = f"{len(strays)} that are not declared, such as {strays[0]!r}"
    fix = "report it: this version of fedmri tried to send what no plan declares"
    return PrivacyError("P01", f"{what} at the border", found=found, want="none", fix=fix)


def _odd(what: str, found: str, want: str) -> PrivacyError:
    fix = "run the same version of fedmri as the server; if the versions agree, report it"
    return PrivacyError("P02", f"{what} at the border", found=found, want=want, fix=fix)


def _too_few(n_subjects: int, n_least: int) -> PrivacyError:
    fix = "let this site sit the plan out, or lower policy.min_subjects_train in site.yaml"
    what, want = "patients behind the update", f"{n_least} or more"
    return PrivacyError("P03", what, found=str(n_subjects), want=want, fix=fix)
