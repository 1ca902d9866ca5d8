"""Which plans a site runs: those that keep to its limits and that somebody there has approved."""

from __future__ import annotations

import datetime as dt
import fcntl
import getpass
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from fedmri.clients.home import ClientHome
from fedmri.clients.leaving import key_bytes, score_metrics, train_metrics, update_bytes
from fedmri.clients.policy import SitePolicy, violations
from fedmri.errors import NetworkError, PrivacyError, UsageError
from fedmri.files import PRIVATE_FILE, write_whole
from fedmri.harmonize.column_names import hint
from fedmri.harmonize.embedding_choice import embedding_stage
from fedmri.harmonize.image_stage import image_stage
from fedmri.harmonize.own_table import table_stage
from fedmri.models.build import build_network
from fedmri.models.weights import layout, weights
from fedmri.plan import Plan
from fedmri.round import Layout, Weights
from fedmri.signed_plan import SignedPlan
from fedmri.strategies.registry import make_strategy

N_SHOWN = 12
"""Digits of a hash that a person is shown; enough to tell plans apart."""


@dataclass(frozen=True)
class Approval:
    """Somebody's consent to one plan, to the byte.

    Attributes:
        plan: Content hash of the plan.
        time: When, UTC.
        who: User of the machine.
        how: ``command``, ``policy.approved`` or ``policy.is_approval_automatic``.
    """

    plan: str
    time: str
    who: str
    how: str


def keep_seen(home: ClientHome, signed: SignedPlan) -> None:
    """Keep a plan that reached the site, so that it can be looked at and approved."""
    path = home.plans / f"{signed.sha256}.json"
    if not path.exists():
        home.plans.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, signed.to_json())


def seen_plans(home: ClientHome) -> list[SignedPlan]:
    """Return the plans that reached the site and are whole, the oldest first."""
    paths = sorted(home.plans.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path))
    plans = [SignedPlan.from_json(path.read_text(encoding="utf-8")) for path in paths]
    return [plan for path, plan in zip(paths, plans, strict=True) if plan.sha256 == path.stem]


def seen_plan(home: ClientHome, prefix: str) -> SignedPlan:
    """Return the one plan whose content hash begins with a prefix.

    Raises:
        UsageError: None does, or several do (U31).
    """
    found = [plan for plan in seen_plans(home) if prefix and plan.sha256.startswith(prefix)]
    if len(found) != 1:
        there = ", ".join(plan.sha256[:N_SHOWN] for plan in seen_plans(home)) or "no plan"
        what, want = f"plan {prefix!r}", f"the beginning of one of: {there}"
        fix = "see `fedmri client plans`; a plan appears there once the server has sent it"
        raise UsageError("U31", what, found=f"{len(found)} plans", want=want, fix=fix)
    return found[0]


def approvals(home: ClientHome) -> dict[str, Approval]:
    """Return the approvals of a site by content hash of the plan."""
    return {approval.plan: approval for approval in _read(home.approvals)}


def approve(home: ClientHome, signed: SignedPlan, how: str) -> Approval:
    """Write down the consent to a plan; one that is there already stays as it is."""
    there = approvals(home).get(signed.sha256)
    if there is not None:
        return there
    time = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    approval = Approval(signed.sha256, time, getpass.getuser(), how)
    number = os.open(home.approvals, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
    with os.fdopen(number, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # after a power cut the last line may be without its end: a new line starts in any case
        file.write(f"\n{json.dumps(asdict(approval))}\n")
        file.flush()
        os.fsync(file.fileno())
    return approval


def refuse_unapproved(home: ClientHome, signed: SignedPlan) -> None:
    """Refuse a plan that the site's limits or its people do not let run.

    The plan is kept, so that it can be approved later. A policy that approves is written down too.

    Raises:
        NetworkError: The coordinator did not sign it (N02), or it cannot be read (N01, N03).
        PrivacyError: It goes beyond the limits (P10), or nobody approved it (P11).
    """
    signed.verify(home.consortium.coordinator)
    plan = signed.plan
    keep_seen(home, signed)
    policy = home.config.policy
    refuse_violations(policy, plan)
    if signed.sha256 in approvals(home):
        return
    if signed.sha256 in policy.approved:
        approve(home, signed, "policy.approved")
    elif policy.is_approval_automatic:
        approve(home, signed, "policy.is_approval_automatic")
    else:
        short = signed.sha256[:N_SHOWN]
        what, fix = f"plan {short}", f"look at it and approve it: `fedmri client approve {short}`"
        raise PrivacyError("P11", what, found="no approval", want="one of this site", fix=fix)


def refuse_violations(policy: SitePolicy, plan: Plan, n_subjects: int | None = None) -> None:
    """Raise the PrivacyError of a plan that goes beyond the limits of a site (P10)."""
    found = violations(policy, plan, n_subjects)
    if found:
        fix = "ask the coordinator for another plan, or change policy in site.yaml"
        what, want = f"plan {plain(plan.name)}", "one within the limits of this site"
        raise PrivacyError("P10", what, found=plain("; ".join(found)), want=want, fix=fix)


def status_of(home: ClientHome, signed: SignedPlan) -> str:
    """Return in a few words whether the site would run a plan that it has seen."""
    try:
        signed.verify(home.consortium.coordinator)
        found = violations(home.config.policy, signed.plan)
    except NetworkError as error:
        return f"refused: {error.public}"
    if found:
        return plain(f"refused: {'; '.join(found)}")
    there = approvals(home).get(signed.sha256)
    if there is not None:
        return f"approved {there.time} by {there.who} ({there.how})"
    policy = home.config.policy
    is_allowed = policy.is_approval_automatic or signed.sha256 in policy.approved
    return "approved by site.yaml" if is_allowed else "waits for approval"


def describe(signed: SignedPlan, policy: SitePolicy) -> str:
    """Return what a person must know before consenting to a plan, one fact a line."""
    facts = _facts(signed, policy)
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {plain(value)}" for name, value in facts.items()]
    beyond = [f"BEYOND THE LIMITS: {plain(text)}" for text in violations(policy, signed.plan)]
    return "\n".join([*lines, *beyond])


def _facts(signed: SignedPlan, policy: SitePolicy) -> Mapping[str, str]:
    plan = signed.plan
    target, source, train = plan.target, plan.data.source, plan.train
    amount = f"{train.local_steps} steps" if train.local_steps else f"{train.local_epochs} epochs"
    scored = ", ".join(score_metrics(plan))
    counts = "" if plan.secagg.is_on else "numbers of examples and patients trained on; "
    entries, named, extra = _network(plan)
    n_numbers = sum(value.numel() for value in entries.values())
    return {
        "plan": f"{plan.name} ({signed.sha256})",
        "learned": f"{target.kind} of {target.name}{_among(target.classes)}",
        "read": f"modalities {', '.join(source.modalities)}; {_column(plan)}",
        "network": f"{plan.model.name}, {n_numbers:,} numbers",
        "strategy": f"{plan.strategy.name}; {amount} a round, {plan.rounds.n_rounds} rounds",
        "aggregation": _aggregation(signed),
        "leaves before the rounds": _sums(plan),
        "leaves before each round": _embedded(plan, entries, named),
        "leaves a round": f"{_leaving(signed, entries, named)}{extra}; "
        f"{counts}{', '.join(train_metrics(plan))}",
        "filters": _filters(plan),
        "held back here": _held_back(policy),
        "leaves when scored": f"over {policy.min_subjects_reported} patients or more: {scored}; "
        "their number; over fewer: that there are fewer",
        "never leaves": "images, label maps, tables, names, paths, dates, any value of one "
        "patient, texts of errors (a code does)",
        "privacy cost": _privacy(plan),
        "signed for": f"fedmri {signed.version}",
    }


def _aggregation(signed: SignedPlan) -> str:
    if not signed.plan.secagg.is_on:
        return "in clear: the server sees what each site sends"
    try:
        summed = signed.roll("").sum(0, {})
    except PrivacyError as error:
        return f"secure, but it would be refused: {error.public}"
    return (
        f"secure: the server learns sums over {summed.n_needed} or more of the sites "
        f"{', '.join(summed.sites)}, and no site's own values or counts; what leaves is masked, in "
        f"8 bytes a number. Compare with the other sites, by telephone: keys {summed.fingerprint}"
    )


def _filters(plan: Plan) -> str:
    filters = plan.filters
    if not filters.is_on:
        return "none: all of the change leaves"
    clip = f"the change is scaled to a norm of {filters.clip_norm:g} at most"
    share = f"its largest {100 - filters.percentile:g} % of values leave, the others as zeros"
    said = [clip] * (filters.clip_norm > 0) + [share] * (filters.percentile > 0)
    return f"{'; '.join(said)}; no guarantee of privacy"


def _held_back(policy: SitePolicy) -> str:
    """Return what this site's own gate asks of an update; see ``fedmri.clients.gate``."""
    norm = f"a change of a norm above {policy.max_update_norm:g}"
    leak = f"a leakage score above {policy.max_leakage:g}, every {policy.leakage_every} rounds"
    said = [norm] * (policy.max_update_norm > 0) + [leak] * (policy.max_leakage > 0)
    return "; ".join(said) or "no update for its norm or for what attacks make of it"


def _privacy(plan: Plan) -> str:
    privacy = plan.privacy
    if privacy.site.is_on:
        own = _site_privacy(plan)
        return f"{own}; {_patient_privacy(plan)}" if privacy.is_on else own
    return _patient_privacy(plan)


def _site_privacy(plan: Plan) -> str:
    site = plan.privacy.site
    bound = f"epsilon {site.max_epsilon:g}" if site.max_epsilon else "no bound"
    each = f", of which this site adds one of {site.n_shares} shares" if site.n_shares > 1 else ""
    return (
        f"differential privacy of this hospital as a whole: noise {site.noise_multiplier:g} times "
        f"clip norm {site.clip_norm:g} on each update{each}; the plan sets {bound} at delta "
        f"{site.delta:g}; not covered: counts, scores{_sums_beside(plan, 'site')}"
    )


def _patient_privacy(plan: Plan) -> str:
    privacy = plan.privacy
    if not privacy.is_on:
        return (
            "none is bounded: no differential privacy in this plan; "
            "weights can give away something of the patients that they were trained on"
        )
    audit = (
        "; with the test scores leaves what your patients' losses prove of it, without noise"
        if privacy.is_audited
        else ""
    )
    bound = f"epsilon {privacy.max_epsilon:g}" if privacy.max_epsilon else "no bound but your own"
    delta = f"delta {privacy.delta:g}" if privacy.delta else "delta one tenth over your patients"
    return (
        f"patient-level differential privacy: noise {privacy.noise_multiplier:g} times clip norm "
        f"{privacy.clip_norm:g}, {privacy.batch_subjects:g} patients a step; "
        f"the plan sets {bound} at {delta}; not covered: counts, scores"
        f"{_sums_beside(plan, 'patient')}{audit}"
    )


def _sums_beside(plan: Plan, unit: str) -> str:
    """Return that a guarantee leaves out sums before the rounds, unless its noise is on them."""
    own = plan.harmonize
    return "" if own.noise_multiplier and own.weighting == unit else ", sums before the rounds"


def _sums(plan: Plan) -> str:
    if plan.harmonize.table.features:
        own, of = plan.harmonize, plan.harmonize.table
        kept = ", ".join(of.covariates) or "nothing"
        odd = [name for name in of.features if hint(name) in ("identifier", "date")]
        warned = f"; NAMED LIKE IDENTIFIERS OR DATES: {', '.join(odd)}" if odd else ""
        return (
            f"{table_stage(own).n_steps} times, sums over rows of the table of features "
            f"({'CovBat' if of.is_covbat else 'ComBat'}), {len(of.features)} "
            f"columns: {', '.join(of.features)}{warned}; kept: {kept}; the harmonized table stays "
            "here, and other columns neither leave nor change"
        )
    stage = image_stage(plan.harmonize, len(plan.data.source.modalities))
    if stage is None:
        return "nothing"
    shapes = {name: values.shape for name, values in stage.site_sums(0, (), {}).items()}
    said = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    often = "once" if stage.n_steps == 1 else f"{stage.n_steps} times, first"
    noise = plan.harmonize.noise_multiplier
    whose = "this site" if plan.harmonize.weighting == "site" else "one patient"
    hidden = f"; noise of {noise:g} times what {whose} adds at most" if noise else ""
    return f"{often}, sums over training scans by modality ({plan.harmonize.image}): {said}{hidden}"


def _among(classes: tuple[str, ...]) -> str:
    return f" ({', '.join(classes)})" if classes else ""


def _column(plan: Plan) -> str:
    if plan.target.kind == "segmentation":
        return f"label maps {plan.target.name}"
    return f"column {plan.target.name} of the subject table"


def _network(plan: Plan) -> tuple[Weights, Layout, str]:
    """Return a plan's entries, what they are, and what else leaves."""
    module = build_network(plan.model, **plan.network)
    entries, named = weights(module), layout(module)
    strategy = make_strategy(plan.strategy, plan.sgd_momentum)
    local = strategy.local_names(named)
    shared = {name: value for name, value in entries.items() if name not in local}
    extra = strategy.extra_forms(shared, named)
    said = (f"{record} ({len(forms)} entries)" for record, forms in sorted(extra.items()))
    return entries, named, "".join(f"; {text}" for text in said)


def _embedded(plan: Plan, entries: Weights, named: Layout) -> str:
    """Return which sums over embeddings leave before each round."""
    stage = embedding_stage(plan.harmonize, entries, named, plan.target)
    if stage is None:
        return "nothing"
    what = "sums over embeddings of training examples"
    if plan.harmonize.embedding == "fedharmony":
        what = "mean and variance of this site's own embeddings, which no sum hides"
    often = "" if plan.harmonize.embedding != "combat" else "; and before each scoring"
    return f"{what} ({plan.harmonize.embedding}), {stage.n_features} features{often}"


def _leaving(signed: SignedPlan, entries: Weights, named: Layout) -> str:
    """Return how many numbers and bytes of the model leave a round, and what of it stays."""
    plan = signed.plan
    strategy = make_strategy(plan.strategy, plan.sgd_momentum)
    local = strategy.local_names(named)
    shared = {name: value for name, value in entries.items() if name not in local}
    n_bytes = update_bytes(plan, shared, strategy.extra_forms(shared, named))
    kind = "changes of weights" if plan.transport.update == "difference" else "trained weights"
    stays = f" ({len(local)} entries stay)" if local else ""
    hidden = ""
    if plan.secagg.is_on:
        n_keys = key_bytes(len(signed.sites))
        hidden = f" under masks, and {n_keys / 1e3:.1f} kB of keys and shares for each sum"
    return f"{len(shared)} entries of {kind}{stays}, {n_bytes / 1e6:.2f} MB{hidden}"


def _read(path: Path) -> Iterator[Approval]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield Approval(**json.loads(line))
        except (ValueError, TypeError):
            continue  # blank, or torn: the consent of nobody


def plain(text: str) -> str:
    """Return a text that cannot move the cursor: a plan's words must not redraw what is shown."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
