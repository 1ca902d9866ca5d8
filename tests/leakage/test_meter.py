"""The meter on networks of the registry: what leaks scores high, what does not scores low."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from fedmri.errors import PrivacyError
from fedmri.leakage.inversion import InversionConfig, gradients, inversion, ssim
from fedmri.leakage.membership import draw_canaries, membership, patient_losses
from fedmri.leakage.meter import LeakageReport, measure
from fedmri.leakage.release import Loss, Release
from fedmri.models.build import build_network
from fedmri.models.weights import weights
from fedmri.round import Batch, Weights
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task
from tests.made import model

CLASSES = Classification("sex", ("f", "m"))
MASK = Segmentation("lesion", ("lesion",))
QUICK = InversionConfig(n_steps=60)


def blobs(n: int, seed: int, prefix: str, n_dims: int = 2, grain: int = 4) -> Batch:
    """Return images of blobs, one patient each, with targets that are pure chance."""
    source = torch.Generator().manual_seed(seed)
    coarse = torch.rand((n, 1, *(grain,) * n_dims), generator=source)
    mode = "bilinear" if n_dims == 2 else "trilinear"
    image = nn.functional.interpolate(coarse, (16,) * n_dims, mode=mode)
    target = torch.randint(2, (n,), generator=source)
    names = tuple(f"{prefix}{i}" for i in range(n))
    return Batch(image, target, torch.ones(n, 1, dtype=torch.bool), names, names)


def network(
    name: str = "cnn5", n_dims: int = 2, target: Task = CLASSES, width: int = 8
) -> nn.Module:
    """Return a small network of the registry."""
    config = model(name, width=width)
    return build_network(
        config, target=target, n_dims=n_dims, n_channels=1, shape=(16,) * n_dims, seed=0
    )


def mask_loss(outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of label maps."""
    return nn.functional.cross_entropy(outputs, truth[:, 0])


def one_step(build: partial[nn.Module], loss: Loss, batch: Batch, noise: float = 0) -> Release:
    """Return the update of one step of SGD on a batch, with noise as a multiple of its norm."""
    net = build().eval()
    before = {name: value.clone() for name, value in weights(net).items()}
    found = gradients(net, loss, batch.inputs, batch.target)
    source = torch.Generator().manual_seed(1)
    size = torch.cat([g.detach().flatten() for g in found.values()]).norm()
    n = sum(g.numel() for g in found.values())
    after: Weights = dict(before)
    for key, gradient in found.items():
        draw = torch.randn(gradient.shape, generator=source) * size / n**0.5
        after[key] = before[key] - 0.1 * (gradient.detach() + noise * draw)
    return Release(build, loss, before, after)


def learner() -> nn.Module:
    """Return a network that learns by heart within a few steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 2))


def trained(batches: Batch, n_steps: int, build: Callable[[], nn.Module] = network) -> Release:
    """Return the update of many steps on the same patients."""
    net = build()
    before = {name: value.clone() for name, value in weights(net).items()}
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(batches.image), batches.target)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        optimizer.step()
    return Release(build, nn.functional.cross_entropy, before, weights(net))


def test_one_image_is_rebuilt_from_its_update_and_not_from_a_noisy_one() -> None:
    """A step on one image gives it away; the same under ten times its norm of noise does not."""
    build = partial(network, "cnn5", width=32)
    image, others = blobs(1, 2, "a"), blobs(8, 52, "b")
    loss, config = nn.functional.cross_entropy, InversionConfig(n_steps=200)
    plain = inversion(one_step(build, loss, image), image, others, config)
    noisy = inversion(one_step(build, loss, image, noise=10), image, others, config)
    assert plain.excess > 0.3
    assert plain.ssim > plain.control_ssim + 0.2
    assert plain.psnr_db > plain.control_psnr_db + 4
    assert noisy.excess < 0.1


@pytest.mark.parametrize(
    ("name", "n_dims", "target"), [("cnn3d", 3, CLASSES), ("unet", 2, MASK)], ids=str
)
def test_other_networks_can_be_attacked(name: str, n_dims: int, target: Task) -> None:
    """In three dimensions and for label maps: the attack runs and its scores are in range."""
    image, other = blobs(1, 0, "a", n_dims), blobs(1, 9, "b", n_dims)
    loss: Loss = nn.functional.cross_entropy
    if target is MASK:
        loss = mask_loss
        masks = [(b.image > 0.5).long() for b in (image, other)]
        image, other = (
            Batch(b.image, m, b.present, b.subjects, b.scans)
            for b, m in zip((image, other), masks, strict=True)
        )

    build = partial(network, name, n_dims, target)
    release = one_step(build, loss, image)
    score = inversion(release, image, other, InversionConfig(n_steps=5))
    assert -1 <= score.control_ssim <= 1
    assert -1 <= score.ssim <= 1
    assert score == inversion(release, image, other, InversionConfig(n_steps=5))


def test_an_image_is_most_like_itself() -> None:
    """Structural similarity is 1 for the image wherever it is found, and lower for others."""
    image, other = blobs(2, 0, "a").image, blobs(2, 9, "b").image
    assert ssim(torch.cat([other, image[1:]]), image) == pytest.approx(1, abs=1e-5)
    assert ssim(other, image) < 0.9


def test_an_overfit_model_names_its_members_and_an_untrained_one_does_not() -> None:
    """Random targets can only be learned by heart: the loss then says who was there."""
    members, others = (blobs(40, seed, f"{seed}-", grain=16) for seed in (0, 1))
    release = trained(members, 40, learner)
    report = measure(release, [members], [others], QUICK)
    assert report.membership.auc > 0.9
    assert report.membership.low > 0.85
    assert report.epsilon_low > 1
    assert report.is_above(0.5)
    untrained = release.network(release.before)
    losses = [patient_losses(untrained, release.loss, [b]) for b in (members, others)]
    score = membership(*(torch.tensor(list(v.values())).double().numpy() for v in losses))
    assert score.low < 0.5 < score.high
    assert score.advantage == 0


def test_a_model_that_saw_canaries_names_them() -> None:
    """Noise with targets of chance: those that were trained on have the lower loss."""
    inserted, left_out = draw_canaries(blobs(6, 0, "a"), 30, seed=3)
    assert not set(inserted.subjects) & set(left_out.subjects)
    release = trained(inserted, 100, learner)
    after = release.network(release.after)
    losses = [patient_losses(after, release.loss, [b]) for b in (inserted, left_out)]
    score = membership(*(torch.tensor(list(v.values())).double().numpy() for v in losses))
    assert score.auc > 0.9


def test_what_cannot_be_measured_is_refused() -> None:
    """No held-out patients, a patient on both sides, or an update that changes nothing."""
    members, others = blobs(4, 0, "a"), blobs(4, 1, "b")
    release = trained(members, 1)
    for held_out in ([], [members]):
        with pytest.raises(PrivacyError, match="P61"):
            measure(release, [members], held_out, QUICK)
    same = Release(release.build, release.loss, release.before, release.before)
    broken = Release(
        release.build,
        release.loss,
        release.before,
        {k: v * torch.nan for k, v in release.after.items()},
    )
    for odd in (same, broken):
        with pytest.raises(PrivacyError, match="P61"):
            measure(odd, [members], [others], QUICK)


def test_a_score_that_is_none_is_above_every_threshold() -> None:
    """What could not be measured is not let out."""
    members, others = blobs(8, 0, "a"), blobs(8, 1, "b")
    report = measure(trained(members, 1), [members], [others], InversionConfig(n_steps=1))
    broken = LeakageReport(
        type(report.inversion)(float("nan"), 0, 0, 0), report.membership, 0, 1e-5
    )
    assert broken.is_above(1)
    assert not report.is_above(1)
