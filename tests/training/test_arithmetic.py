"""Precision and order of memory: what they change, what they do not, and how they are chosen."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedmri.assembly import assemble, settled
from fedmri.config import load
from fedmri.data.batches.site_data import SiteData
from fedmri.errors import ConfigError
from fedmri.models.build import build_network
from fedmri.models.weights import digest, weights
from fedmri.plan import from_json, to_json
from fedmri.tasks.kinds.classification import Classification
from fedmri.training.computing import arithmetic, probe
from fedmri.training.computing.arithmetic import Arithmetic, computes
from fedmri.training.computing.probe import Trial
from fedmri.training.settings import TrainConfig
from tests.made import model
from tests.training.test_local import lesions, train

CPU = torch.device("cpu")
PLAIN = TrainConfig(device="cpu", precision="fp32", memory_format="contiguous", batch_size=5)
LOW = replace(PLAIN, precision="bf16", memory_format="channels_last")
LESION = Classification("lesion", ("none", "round"))
__all__ = ["lesions"]  # a fixture
needs_bf16 = pytest.mark.skipif(
    not computes(CPU, "bf16"), reason="this processor does not multiply bfloat16 numbers"
)


@pytest.fixture
def network() -> nn.Module:
    """Return a small network for two classes."""
    config = model("cnn5", norm="group", width=4)
    return build_network(config, target=LESION, n_dims=2, n_channels=1, shape=(16, 16), seed=0)


@pytest.mark.parametrize("n_dims", [2, 3])
def test_the_order_of_memory_changes_no_value(n_dims: int) -> None:
    """Neither answers nor gradients, but for the rounding of other sums; weights keep their own."""
    settings: dict[str, Any] = {
        "target": LESION,
        "n_channels": 2,
        "shape": (16,) * n_dims,
        "seed": 0,
    }
    own = build_network(model("cnn5", norm="group"), n_dims=n_dims, **settings)
    images = torch.randn(3, 2, *(16,) * n_dims, generator=torch.Generator().manual_seed(0))
    found = []
    for order in ("contiguous", "channels_last"):
        how = Arithmetic.of(replace(PLAIN, memory_format=order))
        outputs = how.outputs(own, how.inputs([images]))
        own.zero_grad()
        torch.autograd.backward(outputs.square().mean())
        found.append([outputs, *(p.grad for p in own.parameters() if p.grad is not None)])
        assert all(p.is_contiguous() for p in own.parameters())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@needs_bf16
def test_bfloat16_trains_as_float32_does(network: nn.Module, lesions: SiteData) -> None:
    """Other bits, nearly the same loss; weights stay float32, and the same run gives the same."""
    low, again = deepcopy(network), deepcopy(network)
    results = [train(n, lesions, c, task=LESION) for n, c in ((network, PLAIN), (low, LOW))]
    train(again, lesions, LOW, task=LESION)
    assert digest(weights(low)) == digest(weights(again)) != digest(weights(network))
    assert results[1].loss == pytest.approx(results[0].loss, rel=0.02)
    assert {p.dtype for p in low.parameters()} == {torch.float32}


def test_a_machine_without_the_precision_goes_by_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes in float32, or is refused where the plan requires the precision."""
    monkeypatch.setattr(arithmetic, "_has_bf16", lambda: False)
    assert Arithmetic.of(LOW).precision == "fp32"
    with pytest.raises(ConfigError, match=r"bf16.*is_precision_required=false.*\[C23\]"):
        Arithmetic.of(replace(LOW, is_precision_required=True))


def test_a_choice_must_be_faster_and_lose_nothing(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fastest of those with the losses of float32; none for a gain that noise explains."""
    trials = {
        ("fp32", "contiguous"): Trial(1.0, (2.0, 1.0)),
        ("fp32", "channels_last"): Trial(0.8, (2.0, 1.01)),
        ("bf16", "contiguous"): Trial(0.5, (2.0, 1.05)),
        ("bf16", "channels_last"): Trial(0.2, (2.0, float("nan"))),
    }
    monkeypatch.setattr(probe, "computes", lambda device, precision: True)
    monkeypatch.setattr(probe, "LEAST_FLOPS", 0)
    monkeypatch.setattr(probe, "_tried", lambda c, *_: trials[c.precision, c.memory_format])
    open_ = TrainConfig(device="cpu")

    def chosen(name: str) -> tuple[str, str]:
        found = probe.settled(open_, network, [(1, 16, 16)], tmp_path / name)
        return found.precision, found.memory_format

    assert chosen("a") == ("bf16", "contiguous")
    trials["bf16", "contiguous"] = Trial(0.5, (2.0, 1.2))
    assert chosen("a") == ("bf16", "contiguous")  # remembered: the same run has the same bits
    assert chosen("b") == ("fp32", "channels_last")
    trials["fp32", "channels_last"] = Trial(0.95, (2.0, 1.0))
    assert chosen("c") == ("auto", "auto")


def test_the_choice_is_timed_and_stands_in_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real steps of a plan's network; the plan that sites get says what came of them."""
    settings = ["target.classes=[none,round]", "data.prepare.dimension=2d"]
    settings += ["data.prepare.shape=[0,16,16]", "model.width=4", "train.device=cpu"]
    plan = load(settings).plan
    assert settled(plan, tmp_path / "small.json") == plan  # too small to be timed
    assert not (tmp_path / "small.json").exists()
    monkeypatch.setattr(probe, "LEAST_FLOPS", 0)
    monkeypatch.setattr(probe, "LEAST_GAIN", 1e9)
    before = digest(assemble(plan).entries)
    found = settled(plan, tmp_path / "memory.json")
    [kept] = json.loads((tmp_path / "memory.json").read_text()).values()
    assert kept == {"precision": found.train.precision, "memory_format": found.train.memory_format}
    assert from_json(to_json(found)).train == found.train
    assert digest(assemble(found).entries) == before
    assert settled(found, tmp_path / "none.json") == found  # nothing is left to choose


def test_a_damaged_memory_is_written_anew(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds nothing that cannot be timed again."""
    monkeypatch.setattr(probe, "LEAST_FLOPS", 0)
    file = tmp_path / "memory.json"
    file.write_text("{")
    probe.settled(TrainConfig(device="cpu", batch_size=2), network, [(1, 16, 16)], file)
    assert len(json.loads(file.read_text())) == 1


SMALL = [(3, 16, 32, 2, 1), (3, 8, 16, 2, 1), (2, 64, 64, 1, 2), (3, 32, 64, 1, 2)]
"""Dimensions, channels in and out, side, stride: bfloat16 gradients came of memory left over."""


@pytest.mark.parametrize(("n_dims", "n_in", "n_out", "side", "stride"), SMALL)
def test_a_convolution_over_a_small_image_reads_no_memory_of_others(
    n_dims: int, n_in: int, n_out: int, side: int, stride: int
) -> None:
    """Whatever lies in freed memory: gradients are those of float32, bit for bit."""
    kind = nn.Conv2d if n_dims == 2 else nn.Conv3d
    torch.manual_seed(0)
    own = kind(n_in, n_out, 3, stride=stride, padding=1)
    image = torch.randn(2, n_in, *(side,) * n_dims)
    found = []
    for precision, left_over in (("fp32", 0.0), ("bf16", torch.nan), ("bf16", 1e4)):
        how = Arithmetic(CPU, precision)
        own.zero_grad()
        for size in [2**power for power in range(2, 20)] * 3:
            torch.full((size,), left_over)
        torch.autograd.backward(how.outputs(own, [image]).square().sum())
        found.append([p.grad for p in own.parameters() if p.grad is not None])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@needs_bf16
def test_a_convolution_over_a_large_image_is_faster_for_its_precision() -> None:
    """It computes in bfloat16: its rounding can be seen."""
    own = nn.Conv2d(4, 8, 3, padding=1)
    image = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    plain, low = (Arithmetic(CPU, p).outputs(own, [image]) for p in ("fp32", "bf16"))
    assert not torch.equal(plain, low)
    torch.testing.assert_close(plain, low, rtol=0.05, atol=0.05)
