"""What sites and server refuse: forged, changed, replayed and unanswerable messages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedmri.errors import PrivacyError
from fedmri.secagg.masks import sign
from fedmri.secagg.messages import Advert, Inbox, Masked, Reveal, Roster, Sealed, Survivors
from fedmri.secagg.shares import N_SHARE
from fedmri.secagg.site_half import SiteHalf
from fedmri.secagg.state import SiteState
from tests.secagg.parties import Parties, parties, private_key


def flipped(text: bytes, place: int = 0) -> bytes:
    """Return bytes with one bit changed."""
    return text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]


def changed(roster: Roster, site: str, advert: Advert) -> Roster:
    """Return the roster with another advert of a site."""
    return Roster({**roster.adverts, site: advert})


@pytest.mark.parametrize("field", ["share_key", "mask_key", "commitment", "signature"])
def test_a_changed_advert_is_refused_by_server_and_sites(field: str) -> None:
    """A server that puts in its own keys would read the shares that sites send each other."""
    all_sites = parties(3)
    roster = all_sites.advertise()
    first, other = all_sites.sum.sites[:2]
    advert = roster.adverts[other]
    forged = changed(roster, other, replace(advert, **{field: flipped(getattr(advert, field))}))
    with pytest.raises(PrivacyError, match=r"advert of site site1.*P52"):
        all_sites.site(first).share(all_sites.states[first], forged)
    with pytest.raises(PrivacyError, match="P52"):
        all_sites.server.roster(forged.adverts)


def test_an_advert_of_another_sum_is_refused() -> None:
    """A recorded advert, or one signed for other values, is none for this sum."""
    old, new = parties(3), parties(3)
    new.sum = replace(new.sum, number=2)
    replayed = changed(new.advertise(), "site1", old.advertise().adverts["site1"])
    with pytest.raises(PrivacyError, match="P52"):
        new.site("site0").share(new.states["site0"], replayed)


def test_another_sites_signature_is_refused() -> None:
    """An advert under the name of another site is none, whoever signed it."""
    all_sites = parties(3)
    roster = all_sites.advertise()
    posing = changed(roster, "site1", roster.adverts["site2"])
    with pytest.raises(PrivacyError, match=r"advert of site site1.*P52"):
        all_sites.site("site0").share(all_sites.states["site0"], posing)


def test_a_site_refuses_to_have_been_replaced() -> None:
    """A site whose own advert is not on the roster, or whose own key is not enrolled, stops."""
    all_sites, again = parties(3), parties(3, seed=1)
    roster = changed(all_sites.advertise(), "site0", again.advertise().adverts["site0"])
    with pytest.raises(PrivacyError, match=r"roster of a sum.*P52"):
        all_sites.site("site0").share(all_sites.states["site0"], roster)
    with pytest.raises(PrivacyError, match=r"key of site site0.*P52"):
        SiteHalf(all_sites.sum, "site0", private_key(77)).advertise(0)


def test_a_key_of_another_site_is_refused() -> None:
    """A site that advertises what another one did, properly signed, is not let in."""
    all_sites = parties(3)
    roster = all_sites.advertise()
    body = roster.adverts["site2"].body
    signature = sign(private_key(1), all_sites.sum.signed_text("site1", body))
    copied = changed(roster, "site1", Advert.from_bytes(body + signature))
    with pytest.raises(PrivacyError, match=r"different keys.*P52"):
        all_sites.site("site0").share(all_sites.states["site0"], copied)


def test_sites_hold_the_threshold_at_every_step() -> None:
    """A site neither shares nor masks among too few, whatever the server lets pass."""
    all_sites = parties(4)
    roster = all_sites.advertise()
    two = Roster({name: roster.adverts[name] for name in ("site0", "site1")})
    with pytest.raises(PrivacyError, match=r"at share.*found 2 of 4.*P51"):
        all_sites.site("site0").share(all_sites.states["site0"], two)
    inbox = all_sites.share(roster)["site0"]
    one = Inbox({"site1": inbox.boxes["site1"]})
    with pytest.raises(PrivacyError, match=r"at mask.*found 2 of 4.*P51"):
        all_sites.site("site0").mask(all_sites.states["site0"], one, all_sites.values["site0"])


def test_a_changed_box_is_refused() -> None:
    """Shares travel through the server, encrypted and authenticated for their holder."""
    all_sites = parties(3)
    inboxes = all_sites.share(all_sites.advertise())
    box = inboxes["site0"].boxes["site2"]
    inbox = Inbox({**inboxes["site0"].boxes, "site2": flipped(box, 40)})
    with pytest.raises(PrivacyError, match=r"box of site site2.*P53"):
        all_sites.site("site0").mask(all_sites.states["site0"], inbox, all_sites.values["site0"])


def test_a_box_for_another_site_is_refused() -> None:
    """A server that swaps boxes cannot make a site hold another's share."""
    all_sites = parties(4)
    inboxes = all_sites.share(all_sites.advertise())
    swapped = Inbox({**inboxes["site0"].boxes, "site2": inboxes["site1"].boxes["site2"]})
    with pytest.raises(PrivacyError, match="P53"):
        all_sites.site("site0").mask(all_sites.states["site0"], swapped, all_sites.values["site0"])


def test_sites_with_different_rosters_cannot_open_each_others_boxes() -> None:
    """A server that shows sites different sets of sites is found out before anything is sent."""
    all_sites = parties(4)
    roster = all_sites.advertise()
    shorter = Roster({name: a for name, a in roster.adverts.items() if name != "site3"})
    _, sealed = all_sites.site("site1").share(all_sites.states["site1"], shorter)
    inboxes = all_sites.share(roster)
    inbox = Inbox({**inboxes["site0"].boxes, "site1": sealed.boxes["site0"]})
    with pytest.raises(PrivacyError, match=r"box of site site1.*P53"):
        all_sites.site("site0").mask(all_sites.states["site0"], inbox, all_sites.values["site0"])


def after_masking(n_sites: int = 4) -> Parties:
    """Return a sum in which every site has masked."""
    all_sites = parties(n_sites)
    all_sites.mask(all_sites.share(all_sites.advertise()))
    return all_sites


def test_both_secrets_of_a_site_are_never_revealed() -> None:
    """Once a share of its seed is out, no share of its key is, and the other way round."""
    all_sites = after_masking()
    half, state = all_sites.site("site0"), all_sites.states["site0"]
    everyone = frozenset(all_sites.sum.sites)
    for first, second in [(everyone, everyone - {"site3"}), (everyone - {"site3"}, everyone)]:
        revealed, message = half.reveal(state, Survivors(first))
        assert not message.of_seed.keys() & message.of_key.keys()
        with pytest.raises(PrivacyError, match=r"other survivors than before.*P54"):
            half.reveal(revealed, Survivors(second))
        assert half.reveal(revealed, Survivors(first))[1] == message  # an answer that got lost


def test_a_site_reveals_nothing_of_a_sum_without_it_or_with_strangers() -> None:
    """Its values left it, so a server that calls it dropped out wants its masks off them."""
    all_sites = after_masking()
    half, state = all_sites.site("site0"), all_sites.states["site0"]
    for survivors in ({"site1", "site2", "site3"}, {"site0", "site1", "site2", "stranger"}):
        with pytest.raises(PrivacyError, match="P54"):
            half.reveal(state, Survivors(frozenset(survivors)))


def test_a_site_reveals_nothing_of_too_small_a_sum() -> None:
    """The sites hold the threshold themselves, whatever the server runs."""
    all_sites = after_masking()
    with pytest.raises(PrivacyError, match=r"found 2 of 4 sites, want 3 or more.*P51"):
        all_sites.site("site0").reveal(
            all_sites.states["site0"], Survivors(frozenset({"site0", "site1"}))
        )


def test_a_sum_is_not_played_again() -> None:
    """The same number, or an earlier one, is refused: the difference of two sums is one site."""
    all_sites = parties(3)
    for last_number in (1, 5):
        with pytest.raises(PrivacyError, match=r"found sum 1, want one after.*P54"):
            all_sites.site("site0").advertise(last_number)


def test_a_step_is_not_taken_twice() -> None:
    """Two vectors under the same masks would give away how the values differ."""
    all_sites = parties(3)
    roster = all_sites.advertise()
    inboxes = all_sites.share(roster)
    half, values = all_sites.site("site0"), all_sites.values["site0"]
    with pytest.raises(PrivacyError, match="P54"):
        half.share(all_sites.states["site0"], roster)
    all_sites.mask(inboxes)
    with pytest.raises(PrivacyError, match="P54"):
        half.mask(all_sites.states["site0"], inboxes["site0"], values)


def test_secrets_are_gone_once_a_site_has_masked() -> None:
    """What is no longer needed cannot be taken from the site, nor printed before."""
    all_sites = parties(3)
    inboxes = all_sites.share(all_sites.advertise())
    before = all_sites.states["site0"]
    assert repr(before.seed) not in repr(before)
    all_sites.mask(inboxes)
    assert all_sites.states["site0"].seed == all_sites.states["site0"].mask_secret == b""


@pytest.mark.parametrize("gone", [frozenset(), frozenset({"site3"})])
def test_a_wrong_share_is_found_out(gone: frozenset[str]) -> None:
    """A site that reveals wrong shares breaks the sum; it cannot make it another one."""
    all_sites = parties(4)
    roster = all_sites.advertise()
    inboxes = all_sites.share(roster)
    running = all_sites.server.start(inboxes)
    for name, message in all_sites.mask(inboxes, gone).items():
        running = all_sites.server.add(running, name, message)
    reveals = all_sites.reveal(all_sites.server.survivors(running))
    good = reveals["site0"]
    bad = Reveal(good.of_seed, {s: flipped(v, N_SHARE - 1) for s, v in good.of_key.items()})
    if not gone:
        bad = Reveal({**good.of_seed, "site1": flipped(good.of_seed["site1"], 9)}, {})
    with pytest.raises(PrivacyError, match="P58"):
        all_sites.server.unmask(running, roster, {**reveals, "site0": bad})


def test_a_vector_counts_once_and_in_full() -> None:
    """The server adds nothing twice, of no stranger and of no other length."""
    all_sites = parties(3)
    inboxes = all_sites.share(all_sites.advertise())
    masked = all_sites.mask(inboxes)
    running = all_sites.server.start(inboxes)
    short = Masked(masked["site0"].vector[:-1])
    for name, message in [("stranger", masked["site0"]), ("site0", short)]:
        with pytest.raises(PrivacyError, match="P56"):
            all_sites.server.add(running, name, message)
    running = all_sites.server.add(running, "site0", masked["site0"])
    with pytest.raises(PrivacyError, match="P56"):
        all_sites.server.add(running, "site0", masked["site0"])


def test_messages_that_are_none_are_refused() -> None:
    """Whatever arrays arrive, the answer is a code."""
    sites = ("a", "b", "c")
    byte = np.zeros(3, dtype=np.uint8)
    for arrays in ({}, {"roster": byte}, {"roster": byte, "present": byte}, {"present": byte}):
        with pytest.raises(PrivacyError, match="P56"):
            Roster.from_arrays(arrays, sites)
    with pytest.raises(PrivacyError, match="P56"):
        Survivors.from_arrays({"present": byte[:2]}, sites)
    with pytest.raises(PrivacyError, match="P56"):
        Masked.from_arrays({"masked": np.zeros(4)}, 4)
    with pytest.raises(PrivacyError, match="P56"):
        Advert.from_arrays({"advert": byte})


def test_a_state_that_is_none_is_refused() -> None:
    """What a site kept comes back as it was; anything else is not gone on with."""
    all_sites = after_masking()
    state = all_sites.states["site0"]
    assert SiteState.from_bytes(state.to_bytes()) == state
    for text in (b"", b"[]", b"{}", state.to_bytes().replace(b"masked", b"else")):
        with pytest.raises(PrivacyError, match="P56"):
            SiteState.from_bytes(text)


def test_the_server_can_leave_out_whoever_answers_wrongly() -> None:
    """Boxes for too few, and shares that nobody asked for, are refused by site."""
    all_sites = parties(3)
    roster = all_sites.advertise()
    with pytest.raises(PrivacyError, match=r"boxes of site0.*P56"):
        all_sites.server.refuse_sealed(roster, "site0", Sealed({}))
    inboxes = all_sites.share(roster)
    running = all_sites.server.start(inboxes)
    for name, message in all_sites.mask(inboxes).items():
        running = all_sites.server.add(running, name, message)
    good = all_sites.reveal(all_sites.server.survivors(running))["site0"]
    for bad in (Reveal({}, {}), Reveal(good.of_seed, {"site1": good.of_seed["site1"]})):
        with pytest.raises(PrivacyError, match=r"shares of site0.*P56"):
            all_sites.server.refuse_reveal(running, "site0", bad)
