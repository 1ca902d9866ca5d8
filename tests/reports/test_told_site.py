"""Whether a report says that embeddings tell the site, and what that means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmri.reports.pages.page import write_report
from fedmri.reports.results import load_results
from fedmri.reports.summary import summarise
from fedmri.reports.text.told_site import telling_sentences
from fedmri.reports.told_site import SiteTelling
from fedmri.tasks.task import Task
from tests.reports.conftest import WriteRun

SITES = {"a": 24, "b": 16, "c": 20}
Embed = Callable[[str, int], np.ndarray]
"""Site and number of a patient, to the embedding."""


def is_ill(site: str, i: int) -> bool:
    """Tell whether a patient is ill: at a one of four, at b three of four, at c half."""
    return i % 4 < {"a": 1, "b": 3, "c": 2}.get(site, 2)


def case(arm: str, seed: int, site: str, i: int) -> Mapping[str, Any]:
    """Return a patient of two classes, as the model says."""
    ill = float(is_ill(site, i))
    share = 0.5 + 0.3 * (ill - 0.5)
    return {
        "truth": ill,
        "prediction": [1 - share, share],
        "scores": {"predicted": ill, "is_correct": 1.0},
    }


def write_embeddings(run: Path, sites: Mapping[str, int], embed: Embed) -> Path:
    """Write embeddings of the federated model as a simulation does."""
    folder = run / "embeddings" / "federated" / "seed-0"
    folder.mkdir(parents=True)
    for site, n in sites.items():
        values = np.array([embed(site, i) for i in range(n)], dtype=np.float32)
        subjects = np.array([f"sub-{i:03d}" for i in range(n)])
        np.savez(folder / f"{site.replace(':', '-')}.npz", subjects=subjects, values=values)
    return run


def noise(site: str, i: int) -> np.ndarray:
    """Return an embedding that tells nothing."""
    return np.random.default_rng([ord(site[0]), i]).standard_normal(8)


def shifted(site: str, i: int) -> np.ndarray:
    """Return one in which each site has a place of its own."""
    return np.asarray(noise(site, i) + 4 * np.eye(8)["abc".index(site[0])])


def told_by_illness(site: str, i: int) -> np.ndarray:
    """Return one that tells the illness, whose prevalence differs by site, and nothing else."""
    return np.asarray(noise(site, i) + 6 * is_ill(site, i) * np.eye(8)[3])


def telling(run: Path, task: Task) -> SiteTelling:
    """Return what a report finds."""
    return summarise(load_results(run), task).telling


def test_a_site_that_embeddings_tell_is_a_warning(
    write_run: WriteRun, classification: Task
) -> None:
    """The numbers stand on the page and in a file, beside chance, with what they mean."""
    run = write_embeddings(write_run(SITES, case), SITES, shifted)
    plain, given = telling(run, classification).found
    assert plain.share.value > 0.95
    assert (plain.chance, plain.p_value, plain.n_sites) == (1 / 3, 0.01, 3)
    assert 0.85 < plain.share.low < plain.share.value <= plain.share.high <= 1
    assert given.is_given
    assert given.is_told
    page = write_report(run, classification)[0].read_text()
    assert "the site of a test patient can be told" in page
    assert "This warns of a shortcut" in page
    lines = (run / "figures" / "site_from_embeddings.csv").read_text().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("federated,0,False,")


def test_noise_tells_no_site_and_proves_nothing(write_run: WriteRun, classification: Task) -> None:
    """A share about chance, and words that claim no more."""
    run = write_embeddings(write_run(SITES, case), SITES, noise)
    found = telling(run, classification)
    assert abs(found.found[0].share.value - 1 / 3) < 0.2
    assert not found.found[0].is_told
    assert "could not be told" in telling_sentences(found)
    assert "no proof" in telling_sentences(found)


def test_the_target_is_taken_out_where_sites_differ_in_it(
    write_run: WriteRun, classification: Task
) -> None:
    """Embeddings that tell the illness tell the site, until its effect is taken out."""
    sites = dict.fromkeys("ab", 40)
    run = write_embeddings(write_run(sites, case), sites, told_by_illness)
    plain, given = telling(run, classification).found
    assert plain.is_told
    assert plain.share.value > 0.65
    assert not given.is_told


def test_sites_that_took_no_part_are_not_told_apart(
    write_run: WriteRun, classification: Task
) -> None:
    """Nor are patients without results, such as those whose answer is not known."""
    sites = {**SITES, "external:x": 9}
    run = write_embeddings(write_run(sites, case), {**sites, "a": 30}, noise)
    plain, _ = telling(run, classification).found
    assert (plain.n_sites, plain.share.n_subjects) == (3, 60)


@pytest.mark.parametrize(
    ("sites", "words"),
    [({"a": 4, "b": 30}, "two sites have five test patients"), (None, "kept no embeddings")],
)
def test_what_is_not_tried_has_a_reason(
    write_run: WriteRun, classification: Task, sites: Mapping[str, int] | None, words: str
) -> None:
    """Too few patients, and runs of before."""
    run = write_run(sites or SITES, case)
    if sites:
        write_embeddings(run, sites, shifted)
    sentences = telling_sentences(telling(run, classification))
    assert "was not tried" in sentences
    assert words in sentences


def test_a_network_of_voxels_has_no_embedding(full_run: Path, segmentation: Task) -> None:
    """Its last layer reads each voxel."""
    assert "answers each voxel" in telling(full_run, segmentation).reason


def test_a_damaged_file_is_told_and_ends_no_report(
    write_run: WriteRun, classification: Task
) -> None:
    """The report is whole but for this."""
    run = write_embeddings(write_run(SITES, case), SITES, shifted)
    (run / "embeddings/federated/seed-0/b.npz").write_bytes(b"no archive")
    assert "cannot be read" in telling(run, classification).reason
