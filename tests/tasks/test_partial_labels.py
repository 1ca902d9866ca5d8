"""Hospitals that draw some classes: what nobody looked for is neither there nor absent."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from fedmri.data.batches.site_data import Example
from fedmri.data.partial import marked, with_drawn
from fedmri.data.scans import Scan
from fedmri.data.settings import SourceConfig
from fedmri.errors import ConfigError, DataError
from fedmri.privacy.per_sample import is_vmap_right
from fedmri.reports.results import load_results
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.marginal import merged
from tests.conftest import RunTiny

BOTH = Segmentation("mask", ("core", "edema"))
CORE_ALONE = (1.0, 0.0)
SHAPE = (2, 1, 6, 5)


def labels(seed: int = 0) -> torch.Tensor:
    """Return label maps of background and two classes."""
    return torch.randint(3, SHAPE, generator=torch.Generator().manual_seed(seed))


def logits(seed: int = 1) -> torch.Tensor:
    """Return raw outputs for them."""
    return torch.randn(2, 3, *SHAPE[2:], generator=torch.Generator().manual_seed(seed)) * 3


def drawn_at(site: str, declared: Sequence[str]) -> tuple[str, ...] | None:
    """Return which classes a site draws."""
    scan = Scan(site, "s", "", {"T1w": Path("x.nii")}, {"mask": Path("m.nii")})
    return with_drawn([scan], declared)[0].drawn


def test_each_site_draws_what_it_declares() -> None:
    """A site by its name, all others by the text without one, and all classes where nothing is."""
    assert drawn_at("A", ("A:core", "core|edema")) == ("core",)
    assert drawn_at("B", ("A:core", "core|edema")) == ("core", "edema")
    assert drawn_at("B", ("A:core",)) is None


@pytest.mark.parametrize("text", [("A:core", "A:edema"), ("A:",), ("core|core",)])
def test_a_declaration_that_is_not_clear_is_refused(text: tuple[str, ...]) -> None:
    """Twice a site, no class, twice a class."""
    with pytest.raises(ConfigError, match=r"source.drawn.*\[C01\]"):
        SourceConfig(drawn=text)


def test_a_site_that_draws_no_class_of_the_target_is_told() -> None:
    """A mistyped name leaves all of its scans out, with the reason."""
    scan = Scan("A", "s", "", {"T1w": Path("x.nii")}, {"mask": Path("m.nii")}, drawn=("cores",))
    [finding] = BOTH.findings([scan])
    assert (finding.code, finding.is_excluded) == ("D16", True)
    with pytest.raises(DataError, match=r"some of core, edema, in data.source.drawn.*\[D16\]"):
        BOTH.truth(scan)
    assert BOTH.truth(replace(scan, drawn=("core",))) == CORE_ALONE
    assert not BOTH.site_findings("A", [replace(scan, drawn=("core",))], [frozenset({1})])
    assert BOTH.site_findings("A", [replace(scan, drawn=None)], [frozenset({1})])


def test_the_marginal_loss_adds_probabilities_of_what_nobody_drew() -> None:
    """By hand: cross entropy, with edema's probability in that of the background."""
    task = replace(BOTH, loss="ce")
    known, outputs = labels(), logits()
    found = task.mean_loss(outputs, marked(known, [CORE_ALONE, CORE_ALONE]))
    shares = outputs.double().softmax(1)
    of_truth = torch.where(known[:, 0] == 1, shares[:, 1], shares[:, 0] + shares[:, 2])
    assert float(found) == pytest.approx(float(-of_truth.log().mean()), rel=1e-5)


def test_a_mixed_batch_is_the_mean_of_its_scans() -> None:
    """One hospital drew all, one the core alone; each counts as it would by itself."""
    task = replace(BOTH, loss="ce")
    target = marked(labels(), [math.nan, CORE_ALONE])
    rows = [task.mean_loss(logits()[i : i + 1], target[i : i + 1]) for i in range(2)]
    assert torch.allclose(task.mean_loss(logits(), target), torch.stack(rows).mean())


@pytest.mark.parametrize("loss", BOTH.losses)
def test_where_all_is_drawn_nothing_changes(loss: str) -> None:
    """The bits of the loss and of its gradient are those of the loss alone."""
    task = replace(BOTH, loss=loss)
    target = marked(labels(), [math.nan, (1.0, 1.0)])
    assert torch.equal(target, labels())
    found = []
    for call in (task.mean_loss, task._loss):
        outputs = logits().requires_grad_()
        value = call(outputs, target)
        found.append((value.detach(), *torch.autograd.grad(value, outputs)))
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))


@pytest.mark.parametrize("loss", BOTH.losses)
def test_an_unknown_class_is_not_pushed_away_in_the_background(loss: str) -> None:
    """A network that sees edema there loses nothing; one that sees the core there does."""
    task = replace(BOTH, loss=loss)
    known = torch.zeros(1, 1, 6, 5, dtype=torch.int64)
    known[..., :2] = 1
    target = marked(known, [CORE_ALONE])

    def lost(name: int) -> float:
        seen = torch.nn.functional.one_hot(known[:, 0], 3).movedim(-1, 1).float() * 20
        seen[:, :, :, 3] = torch.eye(3)[name][None, :, None] * 20
        return float(task.mean_loss(seen, target))

    assert lost(2) == pytest.approx(lost(0), abs=1e-4)
    assert lost(1) > lost(0) + 0.01


def test_voxels_of_a_class_that_was_not_to_be_drawn_are_open() -> None:
    """Some were drawn all the same: the declaration holds, and the loss stays finite."""
    known = torch.tensor([[[[0, 1, 2]]]])
    assert marked(known, [CORE_ALONE]).tolist() == [[[[-2, 1, -2]]]]
    outputs, plain = merged(torch.randn(1, 3, 1, 3), marked(known, [CORE_ALONE]))
    assert plain.tolist() == [[[[0, 1, 0]]]]
    assert outputs.softmax(1)[:, 2].max() < 1e-12


def test_gradients_of_single_patients_are_found_all_at_once() -> None:
    """Where they are without it: differential privacy is no slower for it."""
    task, network = replace(BOTH, loss="ce"), torch.nn.Conv2d(1, 3, 1)
    images, target = torch.randn(SHAPE), marked(labels(), [math.nan, CORE_ALONE])
    assert is_vmap_right(network, task.mean_loss, (images,), target)


@pytest.mark.parametrize(("is_marked", "recall"), [(True, 1.0), (False, 0.0)])
def test_one_hospital_teaches_a_class_that_nine_did_not_draw(
    is_marked: bool, recall: float
) -> None:
    """Taken as background nine times of ten, edema would never be seen again."""
    random = torch.Generator().manual_seed(0)
    known = torch.randint(3, (10, 1, 16, 16), generator=random)
    images = known + 0.1 * torch.randn(known.shape, generator=random)
    drawn = known.clone()
    drawn[:9][known[:9] == 2] = 0
    target = marked(drawn, [CORE_ALONE] * 9 + [math.nan]) if is_marked else drawn
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 1), torch.nn.ReLU(), torch.nn.Conv2d(16, 3, 1)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    task = replace(BOTH, loss="ce")
    for _ in range(200):
        optimizer.zero_grad()
        torch.autograd.backward(task.mean_loss(network(images), target))
        optimizer.step()
    found = network(images).argmax(1)[:, None]
    assert float((found[known == 2] == 2).float().mean()) == pytest.approx(recall, abs=0.05)
    assert float((found[known == 1] == 1).float().mean()) > 0.95


def test_a_run_scores_each_hospital_on_what_it_drew(
    hospitals: Path, run_tiny: RunTiny, tmp_path: Path
) -> None:
    """From label maps on disk to the cases of a simulation."""
    folder = tmp_path / "bids"
    shutil.copytree(hospitals, folder)
    for path in (folder / "derivatives").rglob("*_mask.nii.gz"):
        image = nib.Nifti1Image.from_filename(path)
        values = np.asarray(image.dataobj).astype(np.uint8)
        values[: values.shape[0] // 2][values[: values.shape[0] // 2] > 0] = 2
        nib.save(nib.Nifti1Image(values, image.affine), path)
    with (folder / "participants.tsv").open() as file:
        sites = sorted({row["site"] for row in csv.DictReader(file, delimiter="\t")})
    run = run_tiny(
        "partial",
        *("model=unet", "model.width=4", "target.kind=segmentation", "target.name=mask"),
        *("target.classes=[core,edema]", f"data.source.path={folder}", "data.split.test=0.4"),
        *(f'data.source.drawn=["{sites[0]}:core"]', "rounds.n_rounds=1", "simulation.n_pictures=0"),
        "simulation.arms=[federated]",
    )
    cases = load_results(run).cases["federated", 0]
    assert {*sites} == {*cases}
    for site, own in cases.items():
        assert own
        for case in own:
            assert "dice_core" in case.scores
            assert ("dice_edema" in case.scores) == (site != sites[0])


class Drawn:
    """A scan's own grid, which is the prepared one."""

    spacing_mm = (1.0, 1.0)

    def __init__(self, truth: np.ndarray) -> None:
        self._truth = truth

    def truth(self) -> np.ndarray:
        """Return the labels as drawn."""
        return self._truth

    def restored(self, shares: np.ndarray) -> np.ndarray:
        """Return the labels of shares."""
        return np.asarray(shares[0].argmax(0), np.uint8)


@pytest.mark.parametrize("is_own", [True, False])
def test_scores_are_of_what_was_drawn(is_own: bool) -> None:
    """A perfect core scores 1, whatever is predicted of the edema; means skip what is absent."""
    known = torch.zeros(1, 1, 6, 5, dtype=torch.int64)
    known[..., :2] = 1
    seen = known.clone()
    seen[..., 3] = 2  # an edema that nobody looked for
    own = Drawn(known[0, 0].numpy().astype(np.uint8)) if is_own else None
    given = Example(
        "A", "s", "s", "test", Path("i"), None, None, CORE_ALONE, (True,), (1.0, 1.0), own
    )
    shares = torch.nn.functional.one_hot(seen[:, 0], 3).movedim(-1, 1).float()
    reading = BOTH.read(shares, marked(known, [CORE_ALONE]), [given])
    assert reading.scores["dice"] == reading.scores["dice_core"] == 1
    assert not any(name.endswith("edema") for name in reading.scores)
    whole = BOTH.read(shares, known, [replace(given, target=math.nan)])
    assert whole.scores["dice_edema"] == 0
    cases = [BOTH.case("A", "s", [reading]), BOTH.case("B", "t", [whole])]
    found = BOTH.metrics(cases)
    assert found["dice_core"] == 1
    assert found["dice_edema"] == 0
    assert found["dice"] == 0.75
