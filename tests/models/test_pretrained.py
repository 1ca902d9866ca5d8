"""Weights of a file as the start of a network: what is taken, what is told, what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fedmri.errors import ConfigError
from fedmri.models.pretrained import begin, begin_from, file_sha256, read_weights
from fedmri.models.weights import digest, layout, weights
from tests.made import built

NAME = "resnet18"


def network(seed: int = 1, n_channels: int = 2) -> nn.Module:
    """Return a narrow ResNet-18."""
    return built(NAME, seed=seed, n_channels=n_channels)


def saved(path: Path, source: nn.Module, prefix: str = "") -> Path:
    """Write a network's entries as a file of the path's kind."""
    values = {f"{prefix}{name}": value.clone() for name, value in weights(source).items()}
    if path.suffix == ".safetensors":
        save_file(values, path)
    else:
        torch.save({"state_dict": values}, path)
    return path


@pytest.mark.parametrize("ending", ["safetensors", "pth", "pt"])
def test_a_file_of_the_same_network_gives_its_bits(ending: str, tmp_path: Path) -> None:
    """MedicalNet's names begin with ``module.``; the prefix does not count."""
    source, mine = network(seed=2), network()
    path = saved(tmp_path / f"w.{ending}", source, "module.")
    fit = begin(mine, file_sha256(path), path, 2, "classification")
    assert fit is not None
    assert fit.taken == tuple(mine.state_dict())
    assert fit.resized == fit.fresh == fit.unused == ()
    assert digest(weights(mine)) == digest(weights(source))


def test_other_modalities_and_another_head_are_told(tmp_path: Path) -> None:
    """The stem gets the mean of the file's channels, so that equal images answer equally."""
    source, mine = network(seed=2, n_channels=3), network(n_channels=2)
    head = layout(mine).head
    values = read_weights(saved(tmp_path / "w.safetensors", source))
    before = {name: value.clone() for name, value in weights(mine).items() if name in head}
    values = {n: v for n, v in values.items() if n not in head}
    fit = begin_from(mine, {**values, "old.head": torch.zeros(3)}, 2)
    (stem,) = fit.resized
    assert set(fit.fresh) == head
    assert fit.unused == ("old.head",)
    grey = torch.randn(1, 1, 8, 8)
    conv = nn.functional.conv2d
    one = conv(grey.expand(1, 3, 8, 8), weights(source)[stem])
    assert torch.allclose(conv(grey.expand(1, 2, 8, 8), weights(mine)[stem]), one, atol=1e-5)
    assert all(torch.equal(weights(mine)[name], value) for name, value in before.items())


def test_a_file_of_another_network_is_refused_and_nothing_is_copied(tmp_path: Path) -> None:
    """A wrong depth or width would leave most of a network at its seed."""
    mine = network()
    before = digest(weights(mine))
    path = saved(tmp_path / "w.safetensors", built("cnn5"))
    with pytest.raises(ConfigError, match=r"found 0 of .* numbers.*\[C24\]"):
        begin(mine, file_sha256(path), path, 2, "classification")
    assert digest(weights(mine)) == before


def test_another_file_than_the_plans_is_refused(tmp_path: Path) -> None:
    """All sites start from the bits that the plan names."""
    path = saved(tmp_path / "w.safetensors", network(seed=2))
    with pytest.raises(ConfigError, match=r"found [0-9a-f]{64}, want SHA-256 0000.*\[C24\]"):
        begin(network(), "0" * 64, path, 2, "classification")
    with pytest.raises(ConfigError, match=r"found no file.*--weights.*\[C24\]"):
        begin(network(), "0" * 64, None, 2, "classification")


def test_without_a_hash_a_network_stays_as_it_was_seeded() -> None:
    """Nothing is read."""
    mine = network()
    assert begin(mine, "", Path("nowhere"), 2, "classification") is None
    assert digest(weights(mine)) == digest(weights(network()))


class _Code:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize(
    "content",
    [pickle.dumps(_Code(), 2), b"", b"PK\x03\x04", pickle.dumps({"a": 1}, 2)],
    ids=["code", "empty", "cut", "no-tensors"],
)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_that_holds_no_tensors_is_refused_and_runs_no_code(
    content: bytes, ending: str, tmp_path: Path
) -> None:
    """Files of others are read as tensors alone."""
    path = tmp_path / f"w.{ending}"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"file of weights w\..*\[C24\]"):
        read_weights(path)
