"""A plan is run when it keeps to the site's limits and the site has approved it, to the byte."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedmri.agreement.signed_plan import SignedPlan
from fedmri.clients.consent.approval import (
    N_KEPT,
    Consent,
    approve,
    changed_keys,
    consent,
    keep_seen,
    refuse_unapproved,
    seen_plan,
    seen_plans,
    status_of,
    withdraw,
)
from fedmri.clients.consent.plan_text import describe
from fedmri.clients.consent.policy import SitePolicy
from fedmri.clients.process.home import ClientHome
from fedmri.errors import NetworkError, PrivacyError, UsageError
from fedmri.plan import Plan, ReleaseConfig
from fedmri.privacy.settings import PrivacyConfig, SiteNoiseConfig
from fedmri.strategies.personal.fedbn import FedBN
from fedmri.tasks.kinds.regression import Regression
from tests.clients.conftest import Sign
from tests.made import model


def with_policy(home: ClientHome, text: str) -> ClientHome:
    """Return the site with a policy in its settings."""
    settings = home.settings_file.read_text()
    home.settings_file.write_text(f"{settings}policy:\n  {text}\n")
    return ClientHome(home.folder)


def test_a_plan_waits_until_it_is_approved(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """The first order is refused and shows the plan to the site; once approved, it runs."""
    signed = sign(plan)
    with pytest.raises(PrivacyError, match=rf"client approve {signed.sha256[:12]}.*\[P11\]"):
        refuse_unapproved(home, signed, "first")
    assert seen_plans(home) == [signed]
    assert status_of(home, signed) == "waits for approval"
    approve(home, seen_plan(home, signed.sha256[:12]), "command")
    refuse_unapproved(home, signed, "first")
    assert status_of(home, signed).startswith("approved 20")


def test_a_changed_plan_is_another_plan(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """An approval holds for one plan: one round more takes another."""
    approve(home, sign(plan), "command")
    changed = sign(replace(plan, rounds=replace(plan.rounds, n_rounds=99)))
    with pytest.raises(PrivacyError, match=r"\[P11\]"):
        refuse_unapproved(home, changed, "first")


def test_an_approval_is_no_signature(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """A text that was changed on the way is refused before anybody is asked."""
    signed = sign(plan)
    forged = SignedPlan(signed.text.replace('"seed":0', '"seed":1'), signed.signature)
    approve(home, forged, "command")
    with pytest.raises(NetworkError, match=r"\[N02\]"):
        refuse_unapproved(home, forged, "first")
    assert seen_plans(home) == []


def test_limits_win_over_an_approval(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """Whatever was approved and by whom: a plan beyond the limits does not run."""
    approve(home, sign(plan), "command")
    strict = with_policy(home, "models: [unet]")
    with pytest.raises(PrivacyError, match=r"network cnn3d is not one of unet.*\[P10\]"):
        refuse_unapproved(strict, sign(plan), "first")
    assert status_of(strict, sign(plan)).startswith("refused: network cnn3d")


@pytest.mark.parametrize("how", ["policy.approved", "policy.is_approval_automatic"])
def test_a_policy_that_approves_is_written_down(
    how: str, home: ClientHome, sign: Sign, plan: Plan
) -> None:
    """A plan that nobody looked at can be found later, with the setting that let it in."""
    signed = sign(plan)
    value = f"[{signed.sha256}]" if how == "policy.approved" else "true"
    relaxed = with_policy(home, f"{how.removeprefix('policy.')}: {value}")
    for _ in range(2):
        refuse_unapproved(relaxed, signed, "first")
    there = consent(relaxed, signed.sha256)
    assert [approval.how for approval in there.given] == [how]
    assert there.begun == {"first"}


def test_a_torn_approval_approves_nothing(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """Half a line is nobody's consent, and the next one starts on a line of its own."""
    signed = sign(plan)
    approve(home, signed, "command")
    whole = home.approvals.read_text()
    home.approvals.write_text(whole[:-10])
    assert consent(home, signed.sha256) == Consent()
    approve(home, signed, "command")
    assert len(consent(home, signed.sha256).given) == 1


def test_an_approval_is_for_one_run(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """Under another name a coordinator would get every answer, and every sum, a second time."""
    signed = sign(plan)
    approve(home, signed, "command")
    for _ in range(2):  # a run that goes on is the same run
        refuse_unapproved(home, signed, "first")
    with pytest.raises(PrivacyError, match=r"approved for first.*once more.*\[P15\]"):
        refuse_unapproved(home, signed, "second")
    assert status_of(home, signed).endswith("used by run first")
    for _ in range(2):  # said twice, it is one consent
        approve(home, signed, "command")
    refuse_unapproved(home, signed, "second")
    with pytest.raises(PrivacyError, match=r"\[P15\]"):
        refuse_unapproved(home, signed, "third")
    refuse_unapproved(home, signed, "first")


def test_a_listed_plan_is_approved_once(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """A hash in site.yaml stands for one run as well; a policy without a person for each."""
    signed = sign(plan)
    listed = with_policy(home, f"approved: [{signed.sha256}]")
    refuse_unapproved(listed, signed, "first")
    with pytest.raises(PrivacyError, match=r"\[P15\]"):
        refuse_unapproved(listed, signed, "second")
    text = home.settings_file.read_text().replace("approved:", "is_approval_automatic: true\n  #")
    home.settings_file.write_text(text)
    refuse_unapproved(ClientHome(home.folder), signed, "second")


def test_a_consent_can_be_taken_back(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """The run that goes on is refused at its next order, and no setting gives it again."""
    signed = sign(plan)
    approve(home, signed, "command")
    refuse_unapproved(home, signed, "first")
    withdraw(home, signed)
    with pytest.raises(PrivacyError, match=r"withdrawn 20.*\[P11\]"):
        refuse_unapproved(home, signed, "first")
    automatic = with_policy(home, "is_approval_automatic: true")
    with pytest.raises(PrivacyError, match=r"withdrawn 20.*\[P11\]"):
        refuse_unapproved(automatic, signed, "second")
    assert status_of(automatic, signed).startswith("withdrawn 20")
    with pytest.raises(UsageError, match=r"withdrawn 20.*\[U31\]"):
        withdraw(automatic, signed)
    approve(automatic, signed, "command")
    refuse_unapproved(automatic, signed, "first")


def test_an_approval_lasts_so_many_days(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """A run that began under it ends with it; a policy without a person renews it."""
    signed = sign(plan)
    approve(home, signed, "command")
    refuse_unapproved(home, signed, "first")
    lines = home.approvals.read_text()
    year = int(lines.split('"time": "')[1][:4])
    home.approvals.write_text(lines.replace(f'"{year}', f'"{year - 2}'))
    with pytest.raises(PrivacyError, match=rf"expired: it was given {year - 2}.*\[P11\]"):
        refuse_unapproved(home, signed, "first")
    assert "waits for approval" in status_of(home, signed)
    for_ever = with_policy(home, "approval_days: 0")
    refuse_unapproved(for_ever, signed, "first")
    text = home.settings_file.read_text().replace("approval_days: 0", "is_approval_automatic: true")
    home.settings_file.write_text(text)
    refuse_unapproved(ClientHome(home.folder), signed, "first")


def test_a_server_cannot_fill_the_disk_with_plans(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """Of plans that nobody said anything to the newest stay; one that was approved always does."""
    kept = sign(plan)
    keep_seen(home, kept)
    approve(home, kept, "command")
    plans = [sign(replace(plan, seed=seed)) for seed in range(1, N_KEPT + 20)]
    for signed in plans:
        keep_seen(home, signed)
    there = {signed.sha256 for signed in seen_plans(home)}
    assert len(there) == N_KEPT + 1
    assert {kept.sha256, plans[-1].sha256} <= there


def test_a_plan_with_many_scorings_is_beyond_the_limits(
    home: ClientHome, sign: Sign, plan: Plan
) -> None:
    """Before the run, and not in the middle of it."""
    signed = sign(replace(plan, rounds=replace(plan.rounds, n_rounds=30, evaluate_every=3)))
    assert signed.plan.rounds.n_scorings == 11
    approve(home, signed, "command")
    refuse_unapproved(with_policy(home, "max_scorings: 11"), signed, "first")
    text = home.settings_file.read_text().replace("max_scorings: 11", "max_scorings: 10")
    home.settings_file.write_text(text)
    with pytest.raises(PrivacyError, match=r"11 scorings are more than 10.*\[P10\]"):
        refuse_unapproved(ClientHome(home.folder), signed, "first")


def test_a_kept_plan_that_was_changed_is_not_shown(
    home: ClientHome, sign: Sign, plan: Plan
) -> None:
    """What is approved by a hash has that hash."""
    signed = sign(plan)
    keep_seen(home, signed)
    path = home.plans / f"{signed.sha256}.json"
    path.write_text(sign(replace(plan, seed=1)).to_json())
    assert seen_plans(home) == []


def test_a_hash_must_name_one_plan(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """Nobody approves another plan by a short or empty hash."""
    keep_seen(home, sign(plan))
    with pytest.raises(UsageError, match=r"\[U31\]"):
        seen_plan(home, "")
    plans = [sign(replace(plan, seed=seed)) for seed in range(17)]  # two share their first digit
    for signed in plans:
        keep_seen(home, signed)
    first = [signed.sha256[0] for signed in plans]
    double = next(digit for digit in first if first.count(digit) > 1)
    for prefix in ("", double, "nothing"):
        with pytest.raises(UsageError, match=r"\[U31\]"):
            seen_plan(home, prefix)
    assert seen_plan(home, plans[3].sha256) == plans[3]


def test_a_description_says_what_is_at_stake(sign: Sign, plan: Plan) -> None:
    """Target, data, bytes that leave, what never leaves and the privacy cost, in words."""
    network = model("cnn3d", norm="batch", width=4)
    signed = sign(replace(plan, model=network, strategy=FedBN()))
    text = describe(signed, SitePolicy(min_subjects_reported=7, tasks=("regression",)))
    for said in (
        signed.sha256,
        "classification of lesion (mass, spots, wedge)",
        "column lesion of the subject table",
        "cnn3d",
        "entries stay",
        "MB",
        "balanced_accuracy",
        "over 7 patients or more",
        "images, label maps",
        "no differential privacy in this plan",
        "holds the number of sites, and no names",
        "BEYOND THE LIMITS: task classification is not one of regression",
    ):
        assert said in text


def test_a_description_says_whether_the_model_will_name_the_hospital(
    sign: Sign, plan: Plan
) -> None:
    """A hospital that took part may not want every user of the model to know."""
    named = replace(plan, release=ReleaseConfig(is_naming_sites=True))
    assert "names the sites that trained it" in describe(sign(named), SitePolicy())


def test_people_read_what_becomes_of_a_late_update(plan: Plan, sign: Sign) -> None:
    """Whose hospital is slow knows beforehand whether its work counts."""
    assert "an update that comes later is not used" in describe(sign(plan), SitePolicy())
    rounds = replace(plan.rounds, close_at=0.75, late="added", max_staleness=4)
    text = describe(sign(replace(plan, rounds=rounds)), SitePolicy())
    assert "when 75% of the sites have answered" in text
    assert "still used for 4 rounds, with less weight" in text


def test_a_description_says_whose_privacy_it_is(sign: Sign, plan: Plan) -> None:
    """A hospital's, its patients', or both, each with its own numbers."""
    site = SiteNoiseConfig(2.0, clip_norm=0.1, n_shares=5, max_epsilon=8)
    hospital = "differential privacy of this hospital as a whole: noise 2 times clip norm 0.1"
    text = describe(sign(replace(plan, privacy=PrivacyConfig(site=site))), SitePolicy())
    assert hospital in text
    assert "one of 5 shares" in text
    assert "epsilon 8 at delta 0.001" in text
    assert "patient-level" not in text
    both = PrivacyConfig(noise_multiplier=1.0, site=site)
    text = describe(sign(replace(plan, privacy=both)), SitePolicy())
    assert hospital in text
    assert "patient-level differential privacy: noise 1 times" in text


@pytest.mark.parametrize(("delta", "said"), [(0.0, "one tenth over your patients"), (0.5, "0.5")])
def test_the_delta_of_a_plan_is_shown_beside_its_epsilon(
    sign: Sign, plan: Plan, delta: float, said: str
) -> None:
    """Without it an epsilon says nothing."""
    privacy = PrivacyConfig(noise_multiplier=1.0, max_epsilon=8, delta=delta)
    text = " ".join(describe(sign(replace(plan, privacy=privacy)), SitePolicy()).split())
    assert f"epsilon 8 at delta {said}" in text


def test_the_bytes_that_leave_are_counted_as_they_travel(sign: Sign, plan: Plan) -> None:
    """Half the bytes in half the precision, but for what is not rounded."""
    sizes = []
    for dtype in ("fp32", "fp16"):
        signed = sign(replace(plan, transport=replace(plan.transport, dtype=dtype)))
        line = next(x for x in describe(signed, SitePolicy()).splitlines() if " MB" in x)
        sizes.append(float(line.split(" MB")[0].split()[-1]))
    assert 0.45 < sizes[1] / sizes[0] < 0.7


def test_a_plan_cannot_redraw_what_is_shown(sign: Sign, plan: Plan) -> None:
    """A name with control characters could overwrite the lines that matter."""
    target = Regression("age\x1b[2A\r\n never leaves: all is well")
    text = describe(sign(replace(plan, target=target)), SitePolicy())
    assert "\x1b" not in text
    assert "\r" not in text
    assert [line for line in text.splitlines() if line.startswith(" never")] == []


def test_another_key_of_a_site_is_for_a_person_to_see(
    home: ClientHome, sign: Sign, plan: Plan
) -> None:
    """A coordinator that puts its own key in a hospital's place would see through the masks."""
    home = with_policy(home, "is_approval_automatic: true\n  min_subjects_train: 1")
    keys = {"a": "key of a", "b": "key of b"}
    refuse_unapproved(home, sign(plan, keys), "first")
    later = replace(plan, name="later")
    refuse_unapproved(home, sign(later, {**keys, "c": "key of c"}), "second")  # who is new, is new
    swapped = sign(replace(plan, name="swapped"), {**keys, "b": "the coordinator's"})
    assert changed_keys(home, swapped) == ("b",)
    with pytest.raises(PrivacyError, match=r"other keys than before of b.*\[P11\]"):
        refuse_unapproved(home, swapped, "third")
    assert status_of(home, swapped) == "waits for approval"
    told = describe(swapped, home.config.policy, changed_keys(home, swapped))
    assert "KEY CHANGED: b has another key" in told
    approve(home, swapped, "command")  # after a call: the site has a new machine
    refuse_unapproved(home, swapped, "third")
    refuse_unapproved(home, sign(replace(plan, name="then"), {"b": "the coordinator's"}), "fourth")


def test_who_never_approved_a_key_has_none_that_changed(
    home: ClientHome, sign: Sign, plan: Plan
) -> None:
    """What a server merely sent pins nothing: it could pin a false key before the true one."""
    keep_seen(home, sign(plan, {"a": "false"}))
    assert changed_keys(home, sign(replace(plan, name="later"), {"a": "true"})) == ()
