"""Patients to simulated sites: none lost, none in two, none of the sites empty."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmri.data.scans import Scan
from fedmri.errors import ConfigError, DataError
from fedmri.simulation.partition import Partition, PartitionConfig, partition
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task

KIND = Classification("kind", ("a", "b", "c"))
AGE = Regression("age")
MASK = Segmentation("mask", ("lesion",))
DRAWN = ["iid", "dirichlet", "quantity"]


def cohort(n_subjects: int) -> list[Scan]:
    """Return patients of three classes and three sites; every third was scanned twice."""
    return [
        Scan(
            "xyz"[i % 7 % 3],
            f"s{i:03}",
            session,
            {},
            columns={"kind": "abc"[i % 3], "age": str(20 + i), "scanner": f"m{i % 4}"},
        )
        for i in range(n_subjects)
        for session in (("1", "2") if i % 3 == 0 else ("",))
    ]


def subjects(divided: Partition) -> dict[str, set[str]]:
    """Return the patients of each site."""
    return {site: {scan.subject for scan in scans} for site, scans in divided.sites.items()}


@pytest.mark.parametrize("kind", DRAWN)
@given(
    n_sites=st.integers(1, 12),
    n_more=st.integers(0, 60),
    alpha=st.sampled_from([0.01, 0.5, 100.0]),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=30, deadline=None)
def test_every_patient_is_at_one_site_and_every_site_has_one(
    kind: str, n_sites: int, n_more: int, alpha: float, seed: int
) -> None:
    """However uneven the draw, and with all sessions of a patient together."""
    scans = cohort(n_sites + n_more)
    config = PartitionConfig(kind, n_sites, alpha=alpha)  # type: ignore[arg-type]  # parametrized
    divided = partition(scans, KIND, config, seed)
    sites = subjects(divided)
    assert len(sites) == n_sites
    assert all(sites.values())
    assert sum(map(len, sites.values())) == n_sites + n_more
    assert sum(map(len, divided.sites.values())) == len(scans)
    assert all(scan.site == site for site, group in divided.sites.items() for scan in group)
    assert list(sites) == sorted(sites)
    assert divided.external == {}


@pytest.mark.parametrize("kind", [*DRAWN, "natural"])
def test_the_seed_decides_and_the_order_of_scans_does_not(kind: str) -> None:
    """The same cohort in another order is divided alike; another seed divides anew."""
    scans = cohort(40)
    config = PartitionConfig(kind, 3)  # type: ignore[arg-type]  # parametrized by name
    expected = subjects(partition(scans, KIND, config, 1))
    assert subjects(partition(scans[::-1], KIND, config, 1)) == expected
    is_same = subjects(partition(scans, KIND, config, 2)) == expected
    assert is_same == (kind == "natural")


def test_names_of_drawn_sites_sort_by_number() -> None:
    """Site 2 comes before site 10 in every table."""
    divided = partition(cohort(20), KIND, PartitionConfig("iid", 10), 0)
    assert list(divided.sites) == [f"site-{i:02}" for i in range(1, 11)]


def test_iid_sites_are_of_one_size() -> None:
    """23 patients at 5 sites: three of 5 and two of 4."""
    sites = subjects(partition(cohort(23), KIND, PartitionConfig("iid", 5), 0))
    assert sorted(map(len, sites.values())) == [4, 4, 5, 5, 5]


def test_natural_sites_are_the_largest_and_name_the_rest() -> None:
    """By patients, not by scans; the first by name where two are alike."""
    scans = [Scan("x", "p1", str(i), {}) for i in range(9)]
    scans += [Scan(site, f"{site}{i}", "", {}) for site in "vuw" for i in range(2)]
    divided = partition(scans, KIND, PartitionConfig("natural", 2), 0)
    assert list(divided.sites) == ["u", "v"]
    assert list(divided.external) == ["w", "x"]
    everything = partition(scans, KIND, PartitionConfig("natural"), 0)
    assert list(everything.sites) == ["u", "v", "w", "x"]
    assert everything.external == {}


def test_more_sites_than_there_are_are_refused_with_a_way_out() -> None:
    """The error says how many there are and what can divide patients further."""
    with pytest.raises(ConfigError, match=r"found 3 \(x, y, z\), want 5 .*partition=iid.*C10"):
        partition(cohort(30), KIND, PartitionConfig("natural", 5), 0)
    with pytest.raises(ConfigError, match=r"found 4 patients, want 5 .*C10"):
        partition(cohort(4), KIND, PartitionConfig("quantity", 5), 0)


def test_a_column_names_the_sites() -> None:
    """One site a scanner; a patient on two counts where most of the scans are."""
    scans = [Scan("x", f"p{i}", "", {}, columns={"scanner": "m" + "ab"[i % 2]}) for i in range(6)]
    scans += [
        Scan("x", "q", str(i), {}, columns={"scanner": scanner})
        for i, scanner in enumerate(["mb", "ma", "mb"])
    ]
    scans.append(Scan("x", "r", "", {}, columns={"scanner": ""}))
    divided = partition(scans, AGE, PartitionConfig("by", by="scanner"), 0)
    assert subjects(divided) == {
        "ma": {"p0", "p2", "p4"},
        "mb": {"p1", "p3", "p5", "q"},
        "unknown": {"r"},
    }


def test_an_unknown_column_is_refused_with_those_there_are() -> None:
    """Whoever mistypes a column sees the right one."""
    with pytest.raises(ConfigError, match=r"found 'scaner'.*age, kind, scanner.*C11"):
        partition(cohort(5), AGE, PartitionConfig("by", by="scaner"), 0)


def purity(groups: dict[str, set[str]], value_of: dict[str, str]) -> float:
    """Return the share of patients that have their site's most frequent value."""
    tops = [Counter(value_of[s] for s in group).most_common(1)[0][1] for group in groups.values()]
    return sum(tops) / len(value_of)


@pytest.mark.parametrize("target", [KIND, AGE], ids=["classes", "ages"])
def test_dirichlet_skews_more_the_smaller_alpha_is(target: Task) -> None:
    """From sites of nearly one class (or age group) to sites that are all alike."""
    scans = cohort(300)
    value_of = {scan.subject: scan.columns["kind"] for scan in scans}
    if target is AGE:
        value_of = {scan.subject: str(int(scan.subject[1:]) // 60) for scan in scans}
    shares = []
    for alpha in (0.05, 1000.0):
        drawn = [PartitionConfig("dirichlet", 5, alpha=alpha) for _ in range(4)]
        groups = [subjects(partition(scans, target, c, seed)) for seed, c in enumerate(drawn)]
        shares.append(sum(purity(g, value_of) for g in groups) / len(groups))
    n_values = len(set(value_of.values()))
    assert shares[0] > 0.6
    assert shares[1] < 1 / n_values + 0.1


def test_dirichlet_of_a_segmentation_needs_a_column() -> None:
    """A mask has no class by patient; a column of the table can be skewed in its place."""
    with pytest.raises(ConfigError, match=r"set partition\.by to a column.*C11"):
        partition(cohort(9), MASK, PartitionConfig("dirichlet", 3), 0)
    config = PartitionConfig("dirichlet", 3, by="scanner", alpha=0.1)
    assert len(partition(cohort(9), MASK, config, 0).sites) == 3


def test_quantity_makes_large_and_small_sites() -> None:
    """A small alpha leaves most patients at one of four sites, a large one shares them out."""
    scans = cohort(200)
    largest = []
    for alpha in (0.05, 1000.0):
        config = PartitionConfig("quantity", 4, alpha=alpha)
        divided = [subjects(partition(scans, KIND, config, seed)) for seed in range(8)]
        sizes = [max(map(len, groups.values())) for groups in divided]
        largest.append(sum(sizes) / len(sizes))
    assert largest[0] > 120
    assert largest[1] < 60


@pytest.mark.parametrize("kind", [*DRAWN, "natural", "by"])
def test_a_patient_at_two_natural_sites_is_refused(kind: str) -> None:
    """A code that two hospitals use is one patient too many or too few."""
    scans = [*cohort(12), Scan("q", "s001", "9", {}, columns={"scanner": "m"})]
    config = PartitionConfig(kind, 2, by="scanner" * (kind == "by"))  # type: ignore[arg-type]  # parametrized
    with pytest.raises(DataError, match="D17"):
        partition(scans, KIND, config, 0)


@pytest.mark.parametrize(
    ("settings_of", "key"),
    [
        ({"kind": "iid"}, r"partition\.n_sites"),
        ({"n_sites": -1}, r"partition\.n_sites"),
        ({"kind": "by"}, r"partition\.by"),
        ({"alpha": 0.0}, r"partition\.alpha"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings_of: dict[str, object], key: str) -> None:
    """Before any data are read."""
    with pytest.raises(ConfigError, match=f"{key}.*C01"):
        PartitionConfig(**settings_of)  # type: ignore[arg-type]  # parametrized
