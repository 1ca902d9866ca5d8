"""A plan before it is signed: written, checked as a whole, and compared with another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmri.agreement.signed_plan import SignedPlan
from fedmri.api.data import check_data
from fedmri.assembly import assemble
from fedmri.config import load, refuse_unknown, written_settings
from fedmri.errors import ConfigError, FedmriError
from fedmri.plan import Plan

TABLES = "a plan for tables has no network to build"


@dataclass(frozen=True)
class CheckedPlan:
    """What a look at all of a plan found.

    Attributes:
        plan: The plan; None where its settings cannot be read as one.
        problems: All that is wrong with it, in the order in which it was found.
    """

    plan: Plan | None
    problems: tuple[FedmriError, ...]

    def enforce(self) -> None:
        """Raise the first problem, if there is one: its exit status is that of the check."""
        if self.problems:
            raise self.problems[0]


@dataclass(frozen=True)
class DeclaredSite:
    """A site as its coordinator enrolled it: its name, and the patients that it declared."""

    name: str
    n_subjects: int


def check_plan(
    file: Path | None = None,
    settings: Sequence[str] = (),
    *,
    data: Sequence[Path] = (),
    sites: Sequence[DeclaredSite] = (),
) -> CheckedPlan:
    """Check every value of a plan, all claims of its parts, its network, and the data of sites.

    Args:
        file: YAML of settings.
        settings: Further ones, as ``key=value``; they win.
        data: Data sets of sites, to be opened and held against the plan.
        sites: Sites with what they declared; empty holds the plan against none.

    Raises:
        ConfigError: The file cannot be read (C04).
    """
    plan, problems = _read(written_settings(settings, file))
    if plan is not None:
        problems += [*_of_network(plan), *_of_sites(plan, sites)]
        problems += [problem for path in data for problem in _of_data(path, file, settings)]
    return CheckedPlan(plan, tuple(problems))


def plan_of_file(path: Path) -> Plan:
    """Return the plan of a YAML file of settings, or of a signed plan's JSON.

    Raises:
        ConfigError: A setting cannot be taken (C01 to C04).
        NetworkError: The JSON holds no plan of this version (N01, N03).
    """
    if path.suffix == ".json":
        return SignedPlan.from_json(path.read_bytes()).plan
    return load([], path).plan


def _read(texts: Sequence[str]) -> tuple[Plan | None, list[FedmriError]]:
    """Return the plan of settings and what is wrong; what is refused is left out from then on."""
    problems: list[FedmriError] = []
    kept: list[str] = []
    for text in texts:
        try:
            refuse_unknown(text)
            kept.append(text)
        except ConfigError as error:
            problems.append(error)
    while True:
        try:
            return load(kept).plan, problems
        except FedmriError as error:
            problems += [error, *error.beside]
            less = [text for text in kept if not _is_about(error, text)]
            if len(less) == len(kept):
                return None, problems
            kept = less


def _is_about(error: FedmriError, text: str) -> bool:
    """Tell whether an error is about the setting that a text sets, or a part of it."""
    kind, _, named = error.what.partition(" ")
    key, _, _ = text.partition("=")
    named = named.partition(" ")[0]
    is_same = key == named or named.startswith(f"{key}.") or key.startswith(f"{named}.")
    return kind == "setting" and is_same


def _of_network(plan: Plan) -> Iterator[FedmriError]:
    if plan.is_for_tables:
        return
    try:
        assemble(plan).checked()
    except FedmriError as error:
        yield error


def _of_sites(plan: Plan, sites: Sequence[DeclaredSite]) -> Iterator[FedmriError]:
    """Yield what the sites, as they were enrolled, cannot give."""
    if not sites:
        return
    n = len(sites)
    wanted = {"rounds.min_sites": plan.rounds.min_sites}
    if plan.secagg.is_on:
        wanted["secagg.threshold"] = plan.secagg.threshold
    for key, n_wanted in wanted.items():
        if n_wanted > n:
            fix = f"set {key} to {n} or less, or enrol more sites"
            want = f"{n}, the number of sites, at most"
            yield ConfigError("C03", f"setting {key}", found=str(n_wanted), want=want, fix=fix)
    batch = plan.privacy.batch_subjects
    for site in sites:
        share = 1 - plan.data.split.val - plan.data.split.test
        n_train = int(site.n_subjects * share)
        if plan.privacy.is_on and batch > n_train:
            what, want = f"site {site.name}", f"{batch:g} or more, as privacy.batch_subjects says"
            found, fix = f"{n_train} training patients", "lower privacy.batch_subjects"
            yield ConfigError("C03", what, found=found, want=want, fix=fix)


def _of_data(path: Path, file: Path | None, settings: Sequence[str]) -> Iterator[FedmriError]:
    try:
        check_data(path, settings=settings, config=file).enforce()
    except FedmriError as error:
        yield error
