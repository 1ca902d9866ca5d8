"""Parts that stand still: they never leave a site, whatever the first model comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedmri.assembly import assemble
from fedmri.config import load, load_resolved
from fedmri.errors import ConfigError
from fedmri.models.build import build_network
from fedmri.models.weights import load_weights, weights
from fedmri.round import Weights
from fedmri.server.rounds.checkpoint import load_weights_file
from fedmri.trained.file.model_file import read_model
from tests.conftest import TINY, RunTiny
from tests.simulation.test_study import SITES, StopHere, model_of, records, stop_at

ALONE = ("simulation.arms=[federated]", "rounds.evaluate_every=0", "simulation.n_pictures=0")
FROZEN = ("train.frozen=['*','block4:2','hidden:1']",)
CODED = ("transport.update=difference", "transport.dtype=bf16")
PLAIN = ("train.optimizer=sgd", "train.momentum=0", "train.clip_grad_norm=0")
MODEL = "arms/federated/seed-0/model.safetensors"


def final(folder: Path) -> Weights:
    """Return the final weights of the federated arm."""
    return load_weights_file(folder / MODEL)[0]


@pytest.fixture
def start(tmp_path: Path) -> tuple[str, Weights]:
    """Return the setting of a file of weights of the tiny study's network, and the weights."""
    plan = load([*TINY, "seed=7", "model.norm=batch"]).plan
    values = weights(build_network(plan.model, **plan.network))
    values = {name: value + 0.25 if value.is_floating_point() else value + 5
              for name, value in values.items()}  # fmt: skip
    torch.save(values, tmp_path / "start.pth")
    return f"simulation.weights={tmp_path / 'start.pth'}", values


def size(values: Weights) -> int:
    """Return the bytes of entries."""
    return sum(value.numel() * value.element_size() for value in values.values())


def test_what_stands_still_keeps_its_bits_and_no_update_holds_it(run_tiny: RunTiny) -> None:
    """From the seed: blocks 1 to 3 never, block 4 from round 2 on; statistics stand still too."""
    settings = (*ALONE, *FROZEN, "model.norm=batch", "rounds.n_rounds=2")
    folder = run_tiny("a", *settings)
    made = assemble(load_resolved(folder / "config.yaml").plan)
    first, last = made.entries, final(folder)
    moved = {name for name, value in first.items() if not torch.equal(last[name], value)}
    assert moved == {n for n in first if n.split(".")[0] in ("block4", "hidden", "out")}
    for index, parts in ((1, ("hidden", "out")), (2, ("hidden", "out", "block4"))):
        sent = {n: v for n, v in first.items() if n.split(".")[0] in parts}
        rows = records(folder, kind="round", round=index)
        assert [(row["bytes_up"], row["bytes_down"]) for row in rows] == [(size(sent),) * 2] * 3


@pytest.mark.parametrize(
    "settings",
    [
        (*CODED, "strategy=fedbn", "model.norm=batch", *FROZEN),
        pytest.param(("privacy.noise_multiplier=1", "train.frozen=['*']"), marks=pytest.mark.slow),
        pytest.param(("strategy=scaffold", "train.frozen=['*']", *PLAIN), marks=pytest.mark.slow),
    ],
    ids=["fedbn", "dp", "scaffold"],
)
def test_a_file_workers_and_a_stop_change_no_bit(
    run_tiny: RunTiny, start: tuple[str, Weights], settings: tuple[str, ...]
) -> None:
    """What the server alone has of a file reaches each site once, also after a stop."""
    settings = (*ALONE, "rounds.n_rounds=3", start[0], *settings)
    whole = run_tiny("whole", *settings)
    assert torch.equal(final(whole)["block1.conv.weight"], start[1]["block1.conv.weight"])
    with pytest.raises(StopHere):
        run_tiny("stopped", *settings, observe=stop_at("round", 5))
    resumed = run_tiny("stopped", *settings, "simulation.workers=2")
    assert model_of(resumed) == model_of(whole)


def test_masked_updates_have_the_mean_of_those_in_clear(run_tiny: RunTiny) -> None:
    """What is summed under masks changes with the round, at both ends."""
    clear = final(run_tiny("clear", *ALONE, *FROZEN))
    hidden = final(run_tiny("hidden", *ALONE, *FROZEN, "secagg.is_on=true"))
    assert all(torch.allclose(hidden[n], v, rtol=1e-5, atol=1e-6) for n, v in clear.items())
    assert torch.equal(hidden["block1.conv.weight"], clear["block1.conv.weight"])


def test_adapters_travel_alone_and_the_finished_model_has_none(
    run_tiny: RunTiny, start: tuple[str, Weights]
) -> None:
    """Stopped and resumed: the file is that of a model without adapters, moved from the start's."""
    settings = (*ALONE, start[0], "train.adapter_rank=2", "rounds.n_rounds=2")
    folder = run_tiny("whole", *settings)
    made = assemble(load_resolved(folder / "config.yaml").plan)
    sent = {n: v for n, v in made.entries.items() if n in made.adapters | made.layout.head}
    assert {row["bytes_up"] for row in records(folder, kind="round")} == {size(sent)}
    file = read_model(folder / MODEL)
    assert file.card.plan.train.adapter_rank == 2
    assert not torch.equal(file.weights["block2.conv.weight"], start[1]["block2.conv.weight"])
    assert torch.equal(file.weights["block2.conv.bias"], start[1]["block2.conv.bias"])
    with pytest.raises(StopHere):
        run_tiny("stopped", *settings, observe=stop_at("round", 5))
    assert model_of(run_tiny("stopped", *settings)) == model_of(folder)


def test_adapters_are_scored_as_the_finished_model() -> None:
    """Scores of a run are those of its file, so each answer has the same bits."""
    made = assemble(load([*TINY, "train.adapter_rank=2"]).plan)
    draws = torch.Generator().manual_seed(0)
    moved = {n: torch.randn(made.entries[n].shape, generator=draws) for n in sorted(made.adapters)}
    load_weights(made.network, moved)
    plain = build_network(made.plan.model, **made.plan.network).eval()
    load_weights(plain, made.finished(made.entries))
    images = torch.randn(2, 1, *made.plan.shape, generator=draws)
    with torch.no_grad():
        assert not torch.equal(made.network.eval()(images), plain(images))
        load_weights(made.network, made.scored(made.entries))
        assert torch.equal(made.network(images), plain(images))


def test_what_a_site_keeps_starts_from_the_file(
    run_tiny: RunTiny, start: tuple[str, Weights]
) -> None:
    """A rate of almost nothing moves no weight: what FedBN keeps at a site is the file's."""
    settings = (*ALONE, "strategy=fedbn", "model.norm=batch", "rounds.n_rounds=1")
    folder = run_tiny("a", *settings, start[0], "train.lr=1e-30")
    kept = sorted(folder.rglob("state/round-000001.pt"))
    assert len(kept) == len(SITES)
    for path in kept:
        local = torch.load(path, weights_only=True)["local"]
        assert torch.equal(local["block2.norm.bias"], start[1]["block2.norm.bias"])
        assert int(local["block2.norm.num_batches_tracked"]) > 5


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["train.frozen=[encoder]"], r"found encoder, want .* block1, .*\[C01\]"),
        (["train.frozen=['*','out']"], r"none in round 1.*\[C03\]"),
        (["train.frozen=['*']", "strategy=fedrep"], r"none in round 1.*\[C03\]"),
        (["train.frozen=['*:2']", "strategy=feddyn"], r"thaw in a later round.*\[C03\]"),
        (["train.frozen=['*:0']"], r"train.frozen.*\[C01\]"),
        (["train.frozen=['*:2']", "train.is_optimizer_kept=true"], r"is_optimizer_kept.*\[C01\]"),
    ],
)
def test_what_could_not_be_trained_is_refused(more: list[str], said: str) -> None:
    """Before anything is read: a part that is not there, and nothing left to train."""
    with pytest.raises(ConfigError, match=said):
        assemble(load([*TINY, *more]).plan)
