"""What the file of a trained model says of itself, as one frozen value that travels as JSON."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import version
from typing import Any

from fedmri.arm import Arm
from fedmri.plan import Plan, to_dict
from fedmri.round import Layout
from fedmri.settings.keys import checked_as
from fedmri.stages.registry import STAGES
from fedmri.trained.file.ranges import Ranges

FORMAT = 1
"""Raise it when an older version of fedmri could not use a file, or would use it wrongly."""

DISTRIBUTIONS = (
    *("fedmri", "torch", "monai", "torchio", "numpy", "scipy", "simpleitk"),
    *("nibabel", "pydicom", "pillow"),
)
"""What reads, prepares and predicts: other versions may give other bits."""

PERSONAL = "personal"
"""Role of the model that one site ended with: the file holds the entries that the site keeps."""

RESEARCH = "Research use only. Not a medical device."

ALWAYS_WITHHELD = (
    *("data.source.path", "data.source.patient_key"),
    *("data.check.exclude", "data.check.key"),
)
"""Settings that name patients, a place on a disk or a secret."""
NAMING_SITES = ("data.source.sites", "data.source.site")


@dataclass(frozen=True)
class CardScore:
    """A metric over test patients; an end of its interval is None where it is not known.

    The names of its fields are those of the file.
    """

    value: float
    low: float | None
    high: float | None
    n_patients: int

    @classmethod
    def of(cls, value: float, low: float, high: float, n_patients: int) -> CardScore:
        """Return the score of numbers that may be NaN."""
        first, last = (end if math.isfinite(end) else None for end in (low, high))
        return cls(value, first, last, n_patients)


@dataclass(frozen=True)
class Entries:
    """Which tensors of the file are what, each list in ascending order.

    Attributes:
        parameters: Trainable entries of the network.
        norm_parameters: Scale and shift of batch norm.
        norm_statistics: Running mean, variance and count of batch norm.
        head: Parameters of the last layer.
        at_sites: Entries that each site kept at home. The file holds their initial values, which
            were never trained.
    """

    parameters: tuple[str, ...]
    norm_parameters: tuple[str, ...]
    norm_statistics: tuple[str, ...]
    head: tuple[str, ...]
    at_sites: tuple[str, ...] = ()

    @classmethod
    def of(cls, layout: Layout, at_sites: frozenset[str]) -> Entries:
        """Return the entries of a network, and those that the strategy keeps at the sites."""
        return cls(
            parameters=tuple(sorted(layout.parameters)),
            norm_parameters=tuple(sorted(layout.norm_parameters)),
            norm_statistics=tuple(sorted(layout.norm_statistics)),
            head=tuple(sorted(layout.head)),
            at_sites=tuple(sorted(at_sites)),
        )


@dataclass(frozen=True)
class ModelCard:
    """All that a trained model's file says besides its tensors.

    Attributes:
        plan: The plan, without the settings in ``withheld``.
        plan_sha256: Fingerprint of the whole plan, as the sites approved it.
        sha256: Digest of the weights alone, as the run recorded it.
        entries: Which tensors are what.
        n_sites: Sites that took part in training.
        sites: Their names, where the plan lets the file say them.
        role: Sort of arm that was trained, such as ``federated``, ``pooled`` or ``local``; or
            ``personal`` for one site's own model.
        round_index: Round that the weights are of.
        withheld: Settings of the plan that the file leaves out, by their dotted names.
        versions: Version of each distribution that matters.
        scores: Metrics over the test patients of the sites that took part, by name.
        ranges: What the training scans were like; None where nobody may know.
        intended_use: What the model is meant for.
        format: Of the file.
    """

    plan: Plan
    plan_sha256: str
    sha256: str
    entries: Entries
    n_sites: int
    role: str
    round_index: int
    sites: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, CardScore] = field(default_factory=dict)
    ranges: Ranges | None = None
    intended_use: str = RESEARCH
    format: int = FORMAT


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from.

    Attributes:
        plan: The whole plan.
        arm: Which arm of a comparison it is.
        sites: Sites that trained.
        round_index: Round that the weights are of.
        sha256: Digest of the weights.
    """

    plan: Plan
    arm: Arm
    sites: tuple[str, ...]
    round_index: int
    sha256: str


def card_of(origin: Provenance, entries: Entries, scores: Mapping[str, CardScore]) -> ModelCard:
    """Return the card of a model; what the plan does not let out is not in it."""
    plan, is_named = origin.plan, origin.plan.release.is_naming_sites
    shown, withheld = released(plan)
    return ModelCard(
        plan=shown,
        plan_sha256=plan.fingerprint,
        sha256=origin.sha256,
        entries=entries,
        n_sites=len(origin.sites),
        role=origin.arm.role,
        round_index=origin.round_index,
        sites=tuple(sorted(origin.sites)) if is_named else (),
        withheld=withheld,
        versions=dict(_versions()),
        scores=scores,
        intended_use=plan.release.intended_use or RESEARCH,
    )


@cache
def _versions() -> Mapping[str, str]:
    return {name: version(name) for name in DISTRIBUTIONS}


def released(plan: Plan) -> tuple[Plan, tuple[str, ...]]:
    """Return a plan without what a model's file must not say, and the names of what is gone."""
    more = () if plan.release.is_naming_sites else NAMING_SITES
    names: tuple[str, ...] = (*ALWAYS_WITHHELD, *more)
    withheld, shown = [], plan
    for name in names:
        found = _with_default(shown, name.split("."))
        if found != shown:
            withheld.append(name)
        shown = found
    if not plan.release.is_naming_sites:
        stages = tuple(stage.unnamed() for stage in plan.stages)
        pairs = zip(plan.stages, stages, strict=True)
        withheld += [f"stages.{STAGES.name_of(own)}" for own, bare in pairs if own != bare]
        shown = replace(shown, stages=stages)
    return shown, tuple(withheld)


def _with_default(settings: Any, path: list[str]) -> Any:
    """Return settings with one field, named by its path, at its default."""
    first, *rest = path
    value = (
        _with_default(getattr(settings, first), rest) if rest else getattr(type(settings)(), first)
    )
    return replace(settings, **{first: value})


def to_json(card: ModelCard) -> str:
    """Return the card as JSON: equal cards give equal text."""
    values = {**asdict(card), "plan": to_dict(card.plan)}
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> ModelCard:
    """Return the card of a JSON text; control characters of its texts become U+FFFD.

    Raises:
        ValueError: It is no card of this format: a field is missing, unknown or of another type.
        ConfigError: A setting of its plan cannot be taken.
    """
    values = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(values, dict):
        raise ValueError(f"a {type(values).__name__}")
    if values.get("format") != FORMAT:
        raise ValueError(f"format {values.get('format')!r}, where this version reads {FORMAT}")
    shown = _plain(values)
    card = checked_as(ModelCard).validate_python(shown)
    unknown = _unknown(shown, json.loads(to_json(card)), "")
    if unknown:
        raise ValueError(f"a field {unknown} that this version does not know")
    is_whole = not card.withheld and shown == values
    if is_whole and card.plan.fingerprint != card.plan_sha256:
        raise ValueError("a plan that is not the one of its hash")
    return card


def _refuse_constant(name: str) -> float:
    raise ValueError(f"a number {name}")


def _plain(value: Any) -> Any:
    """Return a card's values without characters that would act on the terminal of a reader."""
    if isinstance(value, str):
        return "".join("\ufffd" if _is_acting(letter) else letter for letter in value)
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _is_acting(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs") and letter != "\n"


def _unknown(given: Any, known: Any, path: str) -> str:
    """Return the first field that was given and not read, or ``""``."""
    if not isinstance(given, dict) or not isinstance(known, dict):
        return ""
    for name, value in given.items():
        place = f"{path}.{name}" if path else name
        if name not in known:
            return place
        if found := _unknown(value, known[name], place):
            return found
    return ""
