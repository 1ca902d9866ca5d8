"""Pre-training without labels: what is hidden, what counts, and another network that starts so."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedmri.claims import Claim, claims_of
from fedmri.clients.process.home import SiteConfig
from fedmri.clients.training.own_data import prepare_own
from fedmri.config import load
from fedmri.data.batches.site_data import Example
from fedmri.data.preparation.prepared import read_site
from fedmri.data.settings import SourceConfig
from fedmri.data.target import OfImages
from fedmri.errors import ConfigError, UsageError
from fedmri.privacy.per_sample import is_vmap_right
from fedmri.simulation.demo import own_folders
from fedmri.simulation.partition import PartitionConfig
from fedmri.simulation.sites import SiteSource, prepare_sites
from fedmri.tasks.kinds.reconstruction import Reconstruction
from fedmri.trained import TrainedModel
from fedmri.trained.file.model_file import read_model
from tests.conftest import RunTiny
from tests.simulation.test_study import records

TASK = Reconstruction(("T1w", "FLAIR"), share=0.5, block=4)
UNET = (
    *("target=reconstruction", "target.modalities=[T1w]", "target.block=4", "model=unet"),
    *("data.prepare.shape=[16,16,16]", "simulation.arms=[federated]", "rounds.evaluate_every=1"),
)


def images(shape: tuple[int, ...] = (8, 12)) -> torch.Tensor:
    """Return three images of two modalities with three neighbours each, and air in a corner."""
    found = torch.randn(3, 6, *shape, generator=torch.Generator().manual_seed(0))
    found[..., :2] = 0
    return found


@pytest.mark.parametrize("shape", [(8, 12), (9, 8, 6)])
def test_blocks_are_hidden_in_all_modalities_and_nothing_else_is(shape: tuple[int, ...]) -> None:
    """The middle slice of a modality is asked for; air is not; a seed decides an example alone."""
    image = images(shape)
    seen, target = TASK.hidden(image, 3, [7, 8, 7])
    is_hidden = (seen == 0).all(1) & (image != 0).all(1)
    assert target.shape == (3, 2, *shape)
    for channel, own in enumerate((1, 4)):
        assert torch.equal(~target[:, channel].isnan(), is_hidden)
        assert torch.equal(target[:, channel][is_hidden], image[:, own][is_hidden])
    shown = ~is_hidden[:, None].expand_as(image)
    assert torch.equal(seen[shown], image[shown])
    assert 0.3 < float(is_hidden.sum() / (image != 0).all(1).sum()) < 0.7
    assert torch.equal(is_hidden[0], is_hidden[2])
    assert not torch.equal(is_hidden[0], is_hidden[1])
    alone = TASK.hidden(image[1:2], 3, [8])
    assert torch.equal(alone[0], seen[1:2])


def test_a_patient_counts_alike_whoever_else_is_there() -> None:
    """The loss is the mean over examples, also of one whose hidden part is small or air."""
    image = images()
    image[1] = 0
    _, target = TASK.hidden(image, 3, [1, 2, 3])
    outputs = torch.ones(3, 2, 8, 12, requires_grad=True)
    each = [TASK.mean_loss(outputs[i : i + 1], target[i : i + 1]) for i in range(3)]
    whole = TASK.mean_loss(outputs, target)
    assert whole.item() == pytest.approx(torch.stack(each).mean().item())
    torch.autograd.backward(whole)
    assert outputs.grad is not None
    assert torch.equal(outputs.grad != 0, ~target.isnan() & (target != 1))
    wanted = (target[0][~target[0].isnan()] - 1).square().mean()
    assert each[0].item() == pytest.approx(wanted.item())


def test_private_steps_know_the_gradient_of_each_patient() -> None:
    """All at once, as one after another: privacy of patients holds without another loss."""
    seen, target = TASK.hidden(images(), 3, [1, 2, 3])
    network = nn.Conv2d(6, 2, 3, padding=1)
    assert Claim.PATIENTS_APART in claims_of(TASK)
    assert is_vmap_right(network, TASK.mean_loss, (seen,), target)


def test_zero_is_a_guess_and_one_is_perfect() -> None:
    """The guess is each modality's mean; what is not a number is as wrong as can be."""
    _, target = TASK.hidden(images(), 3, [1, 2, 3])
    example: Any = [None] * 3  # nothing is read of examples
    examples: list[Example] = example
    means = torch.stack([m[~m.isnan()].mean() for m in target.unbind(1)])
    guess = means.view(1, 2, 1, 1).expand_as(target)
    scores = [
        TASK.read(one, target, examples).scores
        for one in (guess, target.nan_to_num(), torch.full_like(target, torch.nan))
    ]
    assert scores[0]["explained"] == pytest.approx(0, abs=1e-6)
    assert scores[1] == {"explained": 1.0, "mse": 0.0}
    assert scores[2]["explained"] == -1.0
    assert scores[2]["mse"] == TASK.ranges["mse"][1]


def test_another_list_of_modalities_is_refused() -> None:
    """A network would answer for images that nobody reads."""
    assert isinstance(TASK, OfImages)
    with pytest.raises(ConfigError, match=r"found T2w, want T1w.*modalities=\[T1w\].*\[C03\]"):
        load(["experiment=smoke", "target=reconstruction", "target.modalities=[T2w]", "model=unet"])


@pytest.fixture(scope="module")
def bare(hospitals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the hospitals' scans without a label map and without a column but the site."""
    folder = tmp_path_factory.mktemp("bare") / "hospitals"
    shutil.copytree(hospitals, folder, ignore=shutil.ignore_patterns("derivatives"))
    table = folder / "participants.tsv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    with table.open("w", encoding="utf-8", newline="") as file:
        names = ("participant_id", "site")
        out = csv.DictWriter(file, names, delimiter="\t", extrasaction="ignore")
        out.writeheader()
        out.writerows(rows)
    return folder


def test_a_hospital_without_labels_trains_on_what_its_simulation_does(
    tiny: Callable[..., list[str]], bare: Path, cache: Path, tmp_path: Path
) -> None:
    """No scan is left out, and what a hospital prepares itself has the same fingerprint."""
    plan = load(tiny(*UNET, f"data.source.path={bare}")).plan
    simulated = prepare_sites(SiteSource(plan, PartitionConfig(), "", False, cache), tmp_path)
    for site, folder in own_folders(bare, tmp_path / "scans").items():
        config = SiteConfig(data=replace(SourceConfig(), path=str(folder)))
        path = prepare_own(config, plan, site, cache, tmp_path / site)
        assert read_site(path).fingerprint == simulated.fingerprints[site]
        n_scans = len(list(folder.rglob("*T1w.nii.gz")))
        assert len(read_site(path).scans) == n_scans > 0


class _Killed(BaseException):
    """What ends a run between two records, as a kill does."""


def test_an_encoder_without_labels_starts_other_networks(
    run_tiny: RunTiny, bare: Path, tmp_path: Path
) -> None:
    """The same bits after a kill; what is taken has the file's bits, and the last layer is new."""
    own = (*UNET, f"data.source.path={bare}", "rounds.n_rounds=2")
    file = model_in(run_tiny("whole", *own))

    def kill(record: dict[str, Any]) -> None:
        if record["kind"] == "round_total":
            raise _Killed

    with pytest.raises(_Killed):
        run_tiny("killed", *own, observe=kill)
    again = model_in(run_tiny("killed", *own))
    assert again.read_bytes() == file.read_bytes()
    with pytest.raises(UsageError, match=r"masked reconstruction.*\[U77\]"):
        TrainedModel.open(file).predict(bare, out=tmp_path / "out")

    trained = read_model(file)
    start = ("rounds.n_rounds=0", f"simulation.weights={file}", "simulation.arms=[federated]")
    mask = ("target=segmentation", "target.name=mask", "target.classes=[lesion]", "model=unet")
    for name, more in (("masks", (*mask, "data.source.modalities=[T1w]")), ("kinds", ())):
        model = () if more else ("model=unet_encoder",)
        folder = run_tiny(name, *start, *more, *model)
        [record] = [row for row in records(folder) if row["kind"] == "start"]
        begun = read_model(model_in(folder))
        assert {*begun.card.entries.head} <= {*record["fresh"]}
        assert len(record["taken"]) > 30
        assert all(torch.equal(begun.weights[n], trained.weights[n]) for n in record["taken"])
    assert {*record["fresh"]} == {*begun.card.entries.head}  # of the classifier all else is there
    with pytest.raises(ConfigError, match=r"numbers of the network.*\[C24\]"):
        run_tiny("other", *start, "model=resnet18")


def model_in(folder: Path) -> Path:
    """Return the file of a run's model."""
    [file] = folder.glob("arms/federated/seed-0/model.safetensors")
    return file
