"""What a person reads before consenting to a plan: what is learned, what leaves, what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmri.agreement.signed_plan import SignedPlan
from fedmri.assembly import Assembly, assemble
from fedmri.clients.consent.approval import plain
from fedmri.clients.consent.leaving import key_bytes, score_metrics, train_metrics, update_bytes
from fedmri.clients.consent.policy import SitePolicy, violations
from fedmri.clients.egress.border import bits_of
from fedmri.errors import PrivacyError
from fedmri.models.registry import MODELS
from fedmri.parts import Registry
from fedmri.plan import Plan
from fedmri.stages.registry import STAGES
from fedmri.stages.stage import Made, Place, Stage, When, fitted_stages
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.registry import TASKS


def describe(signed: SignedPlan, policy: SitePolicy, changed: Sequence[str] = ()) -> str:
    """Return what a person must know before consenting to a plan, one fact a line.

    Args:
        signed: The plan.
        policy: The site's limits.
        changed: Sites whose keys are other ones than before; see ``changed_keys``.
    """
    facts = plan_facts(signed, policy)
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {plain(value)}" for name, value in facts.items()]
    beyond = [f"BEYOND THE LIMITS: {plain(text)}" for text in violations(policy, signed.plan)]
    keys = [
        f"KEY CHANGED: {plain(site)} has another key than in a plan that was approved here before. "
        "Call that site, and compare keys, before you approve."
        for site in changed
    ]
    return "\n".join([*lines, *beyond, *keys])


def plan_facts(signed: SignedPlan, policy: SitePolicy) -> Mapping[str, str]:
    """Return what a person must know before consenting to a plan, by name."""
    plan = signed.plan
    target, source, train = plan.target, plan.data.source, plan.train
    amount = f"{train.local_steps} steps" if train.local_steps else f"{train.local_epochs} epochs"
    counts = "" if plan.secagg.is_on else "numbers of examples and patients trained on; "
    made = assemble(plan)
    n_numbers = sum(value.numel() for value in made.entries.values())
    return {
        "plan": f"{plan.name} ({signed.sha256})",
        "learned": f"{target.learned}{_whence(TASKS, target)}",
        "read": f"modalities {', '.join(source.modalities)}{_visits(plan)}; {target.reads}"
        f"{_covariates(plan)}",
        "network": f"{MODELS.name_of(plan.model)}, {n_numbers:,} numbers"
        f"{_whence(MODELS, plan.model)}{_start(plan)}",
        "strategy": f"{_strategy(plan)}; {amount} a round, {plan.rounds.n_rounds} rounds",
        "a round ends": _end(plan),
        "aggregation": _aggregation(signed),
        "leaves before the rounds": _sums(made, When.BEFORE_ROUNDS),
        "leaves before each round": _sums(made, When.BEFORE_EACH_ROUND),
        "leaves after the rounds": _sums(made, When.AFTER_ROUNDS),
        "leaves after the test": _sums(made, When.AFTER_TEST),
        "leaves a round": f"{_leaving(signed, made)}{_beside(made)}; "
        f"{counts}{', '.join(train_metrics(plan))}",
        "changed on its way": _unfitted(plan),
        "filters": _filters(plan),
        "held back here": _held_back(policy),
        "leaves when scored": _scored(plan, policy),
        "never leaves": "images, label maps, tables, names, paths, dates, scores of one patient, "
        f"texts of errors (a code does{_reason(policy)})",
        "privacy cost": _privacy(plan),
        "the model's file": _release(plan),
        "signed for": f"fedmri {signed.version}",
    }


def _visits(plan: Plan) -> str:
    """Return how many visits of a patient are read together, where that is more than one."""
    n = plan.data.source.visits
    return f" of a patient's last {n} visits, with the time between them" if n > 1 else ""


def _covariates(plan: Plan) -> str:
    """Return which columns the network reads beside the image; nothing more leaves for them."""
    names = ", ".join(one.name for one in plan.data.source.declared)
    return f"; columns {names} beside the image, which the network reads here" if names else ""


def _reason(policy: SitePolicy) -> str:
    """Return that the words of people here leave with a refusal, where the policy says so."""
    return ", and why people here refuse a run" if policy.is_reason_told else ""


def _start(plan: Plan) -> str:
    """Return which file the first model comes from, where it does not come from the seed."""
    sha256 = plan.start.sha256
    return f"; starts from weights of the coordinator's, SHA-256 {sha256}" if sha256 else ""


def _strategy(plan: Plan) -> str:
    """Return a strategy's name and its own sentence on what it does with a site's update."""
    said = getattr(plan.strategy, "consent", "it says nothing of itself")
    return f"{STRATEGIES.name_of(plan.strategy)}: {said}{_whence(STRATEGIES, plan.strategy)}"


def _whence(registry: Registry[Any], part: object) -> str:
    """Return which distribution a part comes from, where it is not fedmri's own."""
    origin = registry.origin(registry.name_of(part))
    if origin is None:
        return ""
    return f"; CODE OF {origin.distribution}, installed here, files SHA-256 {origin.sha256}"


def _end(plan: Plan) -> str:
    """Return when a round ends, and what becomes of an update that comes later."""
    rounds = plan.rounds
    share = "all sites" if rounds.close_at == 1 else f"{rounds.close_at:.0%} of the sites"
    late = "an update that comes later is not used"
    if rounds.late == "added":
        most = rounds.max_staleness
        late = f"an update that comes later is still used for {most} rounds, with less weight"
    return f"when {share} have answered, or after {rounds.timeout_s:g} s; {late}"


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


def _scored(plan: Plan, policy: SitePolicy) -> str:
    """Return what scores leave, how often, and how much they can say of patients at most."""
    if policy.max_epsilon:
        return "nothing: scores have no noise, and this site has a cap on epsilon"
    names, n, digits = score_metrics(plan), plan.rounds.n_scorings, policy.score_digits
    n_bytes = n * len(names) * bits_of(digits) / 8
    return (
        f"over {policy.min_subjects_reported} patients or more: {', '.join(names)}; their number; "
        f"below that: only that there are fewer. {n} times, {digits} digits each; a dishonest "
        f"server can learn at most {n_bytes:,.0f} bytes about your patients from them"
    )


def _release(plan: Plan) -> str:
    """Return what the finished model's file says of the sites; whoever is given it reads that."""
    named = "names the sites that trained it"
    return named if plan.release.is_naming_sites else "holds the number of sites, and no names"


def _filters(plan: Plan) -> str:
    filters = plan.filters
    if not filters.is_on:
        return "none: all of the change leaves"
    clip = f"the change is scaled to a norm of {filters.clip_norm:g} at most"
    share = f"its largest {100 - filters.percentile:g} % of values leave, the others as zeros"
    said = [clip] * (filters.clip_norm > 0) + [share] * (filters.percentile > 0)
    return f"{'; '.join(said)}; no guarantee of privacy"


def _held_back(policy: SitePolicy) -> str:
    """Return what this site's own gate asks of an update; see ``fedmri.clients.egress.gate``."""
    norm = f"a change of a norm above {policy.max_update_norm:g}"
    leak = f"a leakage score above {policy.max_leakage:g}, every {policy.leakage_every} rounds"
    said = [norm] * (policy.max_update_norm > 0) + [leak] * (policy.max_leakage > 0)
    return "; ".join(said) or "no update, neither for its norm nor for results of attacks"


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
    if not privacy.is_on and plan.is_patient_hidden:
        return (
            "patient-level differential privacy of the sums above, at your own caps; "
            "not covered: counts, scores"
        )
    if not privacy.is_on:
        return (
            "none is bounded: no differential privacy in this plan; "
            "weights can reveal something about the patients that they were trained on"
        )
    audit = (
        "; a lower bound on epsilon from your patients' losses leaves with the test scores, "
        "without noise"
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
    fitted = [stage for stage in plan.stages if stage.when is When.BEFORE_ROUNDS]
    is_covered = bool(fitted) and all(unit in stage.noise for stage in fitted)
    return "" if is_covered else ", sums before the rounds"


def _sums(made: Assembly, when: When) -> str:
    """Return what stages are fitted by that leaves this site at a time."""
    said = [
        _of_stage(stage, Made(made.plan, made.entries, made.layout))
        for _, stage in fitted_stages(made.plan.stages, when)
    ]
    return "; ".join(said) or "nothing"


def _unfitted(plan: Plan) -> str:
    """Return what stages do that are fitted to nothing."""
    said = (
        f"{stage.consent} ({STAGES.name_of(stage)}){_whence(STAGES, stage)}"
        for _, stage in fitted_stages(plan.stages, When.NEVER)
    )
    return "; ".join(said) or "nothing"


def _of_stage(stage: Stage, made: Made) -> str:
    fit = stage.fit(made)
    assert fit is not None, "a stage that is fitted has sums"
    whose = {"patient": "one patient", "site": "this site"}
    hidden = "".join(
        f"; noise of {noise:g} times what {whose[unit]} adds at most"
        for unit, noise in stage.noise.items()
    )
    often = "once" if fit.n_steps == 1 else f"{fit.n_steps} times"
    forms = ""
    # in the first step; those of embeddings go by their length
    if stage.place in (Place.IMAGES, Place.ANSWERS):
        shapes = {name: values.shape for name, values in fit.site_sums(0, (), {}).items()}
        forms = ": " + ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    elif stage.place is Place.EMBEDDINGS:
        forms = f", {made.n_features} features"
    name = STAGES.name_of(stage)
    return f"{often}, {stage.consent} ({name}){forms}{hidden}{_whence(STAGES, stage)}"


def _beside(made: Assembly) -> str:
    """Return what leaves beside the model."""
    said = (
        f"{record} ({len(forms)} entries)" for record, forms in sorted(made.extra_forms.items())
    )
    return "".join(f"; {text}" for text in said)


def _leaving(signed: SignedPlan, made: Assembly) -> str:
    """Return how many numbers and bytes of the model leave a round, and what of it stays."""
    plan, shared, local = made.plan, made.shared(made.entries, made.last), made.local
    n_bytes = update_bytes(plan, shared, made.extra_forms)
    kind = "changes of weights" if plan.transport.update == "difference" else "trained weights"
    still = made.still(made.last) - local
    said = [f"{len(local)} entries stay"] * bool(local)
    said += [f"{len(still)} stand still and never leave"] * bool(still)
    stays = f" ({', '.join(said)})" if said else ""
    hidden = ""
    if plan.secagg.is_on:
        n_keys = key_bytes(len(signed.sites))
        hidden = f" under masks, and {n_keys / 1e3:.1f} kB of keys and shares for each sum"
    return f"{len(shared)} entries of {kind}{stays}, {n_bytes / 1e6:.2f} MB{hidden}"
