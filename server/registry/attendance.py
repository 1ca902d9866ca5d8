"""Where each site of a run stands with its order, for the next order and for whoever watches."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from fedmri.machine.clock import utc
from fedmri.server.runs import write_json

FILE = "asking.json"

State = Literal[
    "asked",
    "unanswered",
    "answered",
    "unapproved",
    "waiting",
    "refused",
    "unreachable",
    "lost",
    "late",
    "revoked",
]
"""``asked`` has its order, and took the last one; of ``unanswered`` nobody knows whether it takes
its order; ``waiting`` trains at other hours; ``refused`` takes no part in the run; ``lost`` crashed
and is asked again; ``late`` let a deadline pass; ``revoked`` was shut out by the coordinator."""
PUT_OFF: Mapping[State, str] = {"unapproved": "P11", "waiting": "P19"}
"""Code of a site that may still say yes, by where it stands: it is asked again, ever later."""
REFUSED = "P18"
"""Code of a site whose people refuse the run: it is left in peace."""
REVOKED = "P12"
"""Code of a site that the coordinator shut out: nobody waits for it."""


@dataclass(frozen=True)
class Standing:
    """Where a site stands.

    Attributes:
        state: What it does.
        since: Since when, UTC.
        code: Of its answer: ``ok``, or what it refused with.
        is_missed: Whether it let the last order pass. The others no longer wait for it, until it
            shows that it is there.
        activation: When its node had come online then; empty where it was away.
        reason: Why it refuses the run, in its people's words; empty where they tell none.
    """

    state: State
    since: str
    code: str = ""
    is_missed: bool = False
    activation: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Missed:
    """A site that let its last order pass.

    Attributes:
        state: Why.
        activation: When its node had come online; empty where it was away.
        message_ids: Orders that it may still be busy with.
    """

    state: State
    activation: str = ""
    message_ids: tuple[str, ...] = ()


@dataclass
class Attendance:
    """What is known of the sites from one order to the next; a resumed run reads it again.

    Attributes:
        folder: Folder of the run; None writes nothing.
        missed: Sites that nobody waits for, by name.
        told: Round and code of each site's last update that was left out, or that joined a later
            round: its next order says so.
        revoked: Gives the sites that the coordinator has shut out by now.
    """

    folder: Path | None = None
    missed: dict[str, Missed] = field(default_factory=dict)
    told: dict[str, tuple[int, str]] = field(default_factory=dict)
    revoked: Callable[[], frozenset[str]] = frozenset
    _sites: dict[str, Standing] = field(default_factory=dict)
    _order: dict[str, str] = field(default_factory=dict)
    _is_news: bool = False

    def __post_init__(self) -> None:
        if self.folder is not None:
            self._order, self._sites = read_standings(self.folder)
            self.told = _read_told(self.folder)
            missed = {site: one for site, one in self._sites.items() if one.is_missed}
            self.missed = {s: Missed(one.state, one.activation) for s, one in missed.items()}

    def begin(self, kind: str, until: str) -> None:
        """Note that an order of a kind goes out, and when its deadline is (UTC)."""
        self._order, self._is_news = {"kind": kind, "since": utc(), "until": until}, True
        self.write()

    def end(self) -> None:
        """Note that nobody is waited for."""
        self._order, self._is_news = {}, True
        self.write()

    def state(self, site: str) -> State | None:
        """Return where a site stands, or None where nothing is known."""
        return self._sites[site].state if site in self._sites else None

    def note(self, site: str, state: State, code: str = "") -> bool:
        """Note where a site stands; tell whether that is new."""
        before = self._sites.get(site)
        if before is not None and (before.state, before.code) == (state, code):
            return False
        old = before or Standing(state, "")
        self._sites[site] = replace(old, state=state, since=utc(), code=code, reason="")
        self._is_news = True
        return True

    def ask(self, site: str) -> None:
        """Note that a site has its order. It works on it if it took the last one."""
        before = self._sites.get(site)
        has_taken = before is not None and (before.state == "asked" or before.code == "ok")
        self.note(site, "asked" if has_taken else "unanswered")

    def refuse(self, site: str, activation: str, reason: str) -> None:
        """Note that a site refuses the run; ``activation`` is when its node had come online."""
        self._sites[site] = Standing(
            "refused", utc(), REFUSED, activation=activation, reason=reason
        )
        self._is_news = True

    def shut_out(self, site: str) -> bool:
        """Note that a site was revoked, and forget its orders; tell whether that is new."""
        self.missed.pop(site, None)
        return self.note(site, "revoked", REVOKED)

    def refusal(self, site: str) -> Standing | None:
        """Return the standing of a site that refuses the run; None where it does not."""
        found = self._sites.get(site)
        return found if found is not None and found.state == "refused" else None

    def miss(self, site: str, missed: Missed) -> None:
        """Note that a site let its order pass."""
        self.missed[site] = missed
        code = PUT_OFF.get(missed.state, "")
        before = self._sites.get(site)
        is_same = before is not None and before.state == missed.state
        since = before.since if before is not None and is_same else utc()
        self._sites[site] = Standing(
            missed.state, since, code, is_missed=True, activation=missed.activation
        )
        self._is_news = True

    def is_back(self, site: str) -> None:
        """Note that a site is to be waited for again."""
        if self.missed.pop(site, None) is not None and site in self._sites:
            self._sites[site] = replace(self._sites[site], is_missed=False)
            self._is_news = True

    def tell(self, site: str, round_index: int, code: str) -> None:
        """Note what became of a site's update, for its next order to say.

        Nothing is said of one that was in time, nor to a site that itself chose to give none.
        """
        before, now = self.told.pop(site, None), (round_index, code)
        if code not in ("ok", REFUSED, *PUT_OFF.values()):
            self.told[site] = now
        self._is_news |= before != self.told.get(site)

    def write(self) -> None:
        """Write the news, if there are any: with hundreds of sites, not for each by itself."""
        if self.folder is not None and self._is_news:
            self._is_news = False
            sites = {site: asdict(one) for site, one in sorted(self._sites.items())}
            news = {"order": self._order, "sites": sites, "told": dict(sorted(self.told.items()))}
            write_json(self.folder / FILE, news)


def read_standings(folder: Path) -> tuple[dict[str, str], dict[str, Standing]]:
    """Return the order that is out in a run, if one is, and where its sites stand.

    It is news and no record: where the file is missing or broken, nothing is known.
    """
    try:
        found: Mapping[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        order = {str(key): str(value) for key, value in found["order"].items()}
        sites = {str(site): _standing(one) for site, one in found["sites"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, {}
    return order, sites


def _read_told(folder: Path) -> dict[str, tuple[int, str]]:
    try:
        found: Mapping[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))["told"]
        return {str(site): (int(at), str(code)) for site, (at, code) in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _standing(fields: Mapping[str, Any]) -> Standing:
    state = fields["state"]
    if state not in get_args(State):
        raise ValueError(state)
    texts = {name: str(fields[name]) for name in ("since", "code", "activation", "reason")}
    return Standing(state, is_missed=bool(fields["is_missed"]), **texts)
