"""A trained model's card in words: what it predicts, from what, how well, and what it is for."""

from __future__ import annotations

from collections.abc import Iterator

from fedmri.claims import Claim, claims_of
from fedmri.models.registry import MODELS
from fedmri.parts import NAME
from fedmri.plan import Plan
from fedmri.reports.text.words import metric_name, number
from fedmri.stages.registry import STAGES
from fedmri.strategies.registry import STRATEGIES
from fedmri.trained.file.card import CardScore, ModelCard

LEFT_AT_SITES = (
    "{n} entries stay at the sites: the file holds their initial values, and the model cannot "
    "predict by itself"
)

OF_SITES = (
    "they may be of the sites' own models, which stay there; this file holds the shared model"
)


def describe(card: ModelCard) -> dict[str, str]:
    """Return what a person must know before using a model, by the name of each fact."""
    plan, source = card.plan, card.plan.data.source
    facts = {
        "model": f"{plan.name}, weights {card.sha256}",
        "predicts": plan.target.learned,
        "reads": ", ".join([*source.channels, *(f"column {c.name}" for c in source.declared)]),
        "preparation": ", ".join(_preparation(card)),
        "network": _network(plan),
        "trained": _training(card),
        "harmonization": _harmonization(card),
        "intended use": card.intended_use,
        "training scans": _ranges(card),
        "plan": f"{card.plan_sha256}{_withheld(card)}",
        "made with": ", ".join(f"{name} {known}" for name, known in sorted(card.versions.items())),
    }
    if _is_second(card):
        facts["scores"] = OF_SITES
    if card.entries.at_sites:
        facts["incomplete"] = LEFT_AT_SITES.format(n=len(card.entries.at_sites))
    scores = {metric_name(name): _score(found) for name, found in card.scores.items()}
    return facts | {f"test: {name}": text for name, text in scores.items()}


def _is_second(card: ModelCard) -> bool:
    """Whether sites may have been scored with another model than the one in the file."""
    strategy = card.plan.strategy
    is_one = Claim.ONE_MODEL in claims_of(strategy) or card.entries.at_sites
    return card.role == "federated" and not is_one


def _preparation(card: ModelCard) -> Iterator[str]:
    prepare = card.plan.data.prepare
    yield prepare.dimension
    if prepare.spacing_mm:
        yield f"voxels of {prepare.spacing_mm:g} mm"
    if any(prepare.size):
        yield f"resampled to {' x '.join(map(str, prepare.size))}"
    if any(prepare.shape):
        yield f"cropped or padded to {' x '.join(map(str, prepare.shape))}"
    yield f"intensities by {prepare.scaling}"
    if prepare.is_n4:
        yield "N4"
    if prepare.is_skull_stripped:
        yield "skull stripped"


def _network(plan: Plan) -> str:
    """Return a network's name and its own settings."""
    settings = MODELS.as_dict(plan.model)
    name = settings.pop(NAME)
    return ", ".join([name, *(f"{key} {value}" for key, value in settings.items())])


def _training(card: ModelCard) -> str:
    plan, n = card.plan, card.n_sites
    names = f": {', '.join(card.sites)}" if card.sites else ""
    sites = f"{n} {'site' if n == 1 else 'sites'}{names}"
    return (
        f"{card.role}, {sites}; {STRATEGIES.name_of(plan.strategy)}, round {card.round_index} of "
        f"{plan.rounds.n_rounds}, seed {plan.seed}"
    )


def _harmonization(card: ModelCard) -> str:
    return ", ".join(STAGES.name_of(stage) for stage in card.plan.stages) or "none"


def _ranges(card: ModelCard) -> str:
    ranges = card.ranges
    if ranges is None:
        return "not known to this file"
    spans = " x ".join(_span(*span) for span in ranges.spacing_mm)
    voxels = f", voxels of {spans} mm" if spans else ""
    return f"{ranges.n_scans}{voxels}"


def _span(low: float, high: float) -> str:
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"


def _withheld(card: ModelCard) -> str:
    return f" (without {', '.join(card.withheld)})" if card.withheld else ""


def _score(found: CardScore) -> str:
    ends = "no interval"
    if found.low is not None and found.high is not None:
        ends = f"{number(found.low)} to {number(found.high)}"
    return f"{number(found.value)} ({ends}), {found.n_patients} patients"
