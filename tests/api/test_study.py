"""What a notebook does with ``import fedmri``, beside the command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import fedmri
from fedmri.models.model import IMAGE
from fedmri.models.registry import MODELS
from fedmri.models.sizes import Sizes
from fedmri.round import Answer, ServerState, Update, Weights
from fedmri.strategies.registry import STRATEGIES
from tests.conftest import TINY, Command


@dataclass(frozen=True)
class HalfStep(fedmri.FedAvg):
    """The server goes half of the way."""

    way: float = 0.5

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with a model between the last one and the mean."""
        new = super().aggregate(state, updates, out)
        for name in sorted(state.layout.parameters):
            new.model[name].copy_(state.model[name].lerp(new.model[name], self.way))
        return new


@dataclass(frozen=True)
class Brightness:
    """One linear layer on the mean of each channel."""

    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    multiple: ClassVar[int] = 1

    def build(self, sizes: Sizes) -> torch.nn.Module:
        """Return the network."""
        layers = torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(1)
        return torch.nn.Sequential(*layers, torch.nn.Linear(sizes.n_channels, sizes.n_outputs))


@pytest.fixture(autouse=True)
def _forget_held_parts() -> None:
    for registry in (MODELS, STRATEGIES):
        registry.held.clear()


def settings(hospitals: Path, cache: Path, runs: Path, *more: str) -> list[str]:
    """Return the settings of a study that takes a second."""
    paths = (f"simulation.cache={cache}", f"simulation.runs={runs}")
    return [*TINY, *paths, "rounds.n_rounds=2", "simulation.arms=[federated]", *more]


def test_every_name_that_is_offered_is_there_and_nothing_heavy_is_loaded() -> None:
    """Importing the package, and listing it, costs what importing a small module costs."""
    code = (
        "import sys, fedmri; assert set(fedmri.__all__) <= set(dir(fedmri)); "
        "print(*sorted({'torch', 'monai', 'pandas', 'numpy', 'hydra', 'flwr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert all(getattr(fedmri, name) is not None for name in fedmri.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Studie'"):
        _ = fedmri.Studie


def test_a_study_ends_with_the_bits_of_the_command(
    hospitals: Path, cache: Path, here: Command, tmp_path: Path
) -> None:
    """A notebook and a terminal are one code path: the same model file, byte for byte."""
    given = settings(hospitals, cache, tmp_path / "a")
    study = fedmri.Study(hospitals, strategies=["fedprox"], settings=given)
    result = study.run(observe=lambda record: None)
    words = ["simulate", "--data", str(hospitals), *settings(hospitals, cache, tmp_path / "b")]
    assert here(*words, "strategy=fedprox", cwd=tmp_path).returncode == 0
    [other] = (tmp_path / "b").iterdir()
    path = "arms/federated/seed-0/model.safetensors"
    assert (result.folder / path).read_bytes() == (other / path).read_bytes()


def test_own_classes_are_compared_with_installed_ones_and_tables_come_out(
    hospitals: Path, cache: Path, tmp_path: Path
) -> None:
    """A strategy and a model of a notebook need no registration and no file."""
    study = fedmri.Study(
        hospitals,
        target=fedmri.Classification("lesion", ["mass", "spots", "wedge"]),
        model=Brightness(),
        strategies=["fedavg", HalfStep(way=0.25)],
        settings=settings(hospitals, cache, tmp_path),
    )
    result = study.run(observe=lambda record: None)
    table = result.table()
    assert {"federated:fedavg", "federated:half_step"} <= set(table["model"])
    scores = table[table["metric"] == "balanced_accuracy"]
    assert scores["value"].between(0, 1).all()
    assert set(result.differences()["shown"]) <= {"better", "worse", "no difference shown"} | {
        "cannot be said"
    }
    assert result.report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    again = fedmri.StudyResult.open(result.folder).table()
    assert again.equals(table)


def test_a_study_goes_on_where_it_was_stopped(hospitals: Path, cache: Path, tmp_path: Path) -> None:
    """The folder of an interrupted run is all that is needed."""
    given = settings(hospitals, cache, tmp_path / "a")

    def stop(record: dict[str, object]) -> None:
        if record.get("kind") == "round_total":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fedmri.Study(hospitals, settings=given).run(observe=stop)
    [folder] = (tmp_path / "a").iterdir()
    resumed = fedmri.Study.resumed(folder).run(observe=lambda record: None)
    whole = fedmri.Study(hospitals, settings=settings(hospitals, cache, tmp_path / "b"))
    path = "arms/federated/seed-0/model.safetensors"
    other = whole.run(observe=lambda record: None).folder / path
    assert (resumed.folder / path).read_bytes() == other.read_bytes()


def test_a_class_without_a_name_of_its_own_is_refused(hospitals: Path) -> None:
    """It would be taken for the installed strategy of that name."""

    @dataclass(frozen=True)
    class Krum(fedmri.FedAvg):
        pass

    with pytest.raises(fedmri.FedmriError, match=r"strategy krum of this process.*\[C40\]"):
        fedmri.Study(hospitals, strategies=[Krum()])


def test_a_class_of_a_notebook_is_refused_where_claims_count(hospitals: Path) -> None:
    """It claims nothing, so nobody knows whether a sum would do for it."""
    with pytest.raises(fedmri.FedmriError, match=r"strategy half_step.*\[P57\]"):
        fedmri.Study(hospitals, strategies=[HalfStep()], settings=["secagg.is_on=true"])


def test_a_function_that_makes_a_network_is_a_model(
    hospitals: Path, cache: Path, tmp_path: Path
) -> None:
    """It trains in this process, and claims nothing."""

    def linear(sizes: Sizes) -> torch.nn.Module:
        return Brightness().build(sizes)

    given = settings(hospitals, cache, tmp_path)
    result = fedmri.Study(hospitals, model=linear, settings=given).run(lambda record: None)
    assert "name: linear" in (result.folder / "config.yaml").read_text()
    with pytest.raises(fedmri.FedmriError, match=r"model linear.*\[P32\]"):
        fedmri.Study(hospitals, model=linear, settings=["privacy.noise_multiplier=1"])


def test_a_script_needs_no_guard_for_worker_processes(
    hospitals: Path, cache: Path, tmp_path: Path
) -> None:
    """Workers do not run the script again, which would start the study once more in each."""
    few = ("simulation.workers=2", "simulation.arms=[federated]", "rounds.n_rounds=1")
    given = [*settings(hospitals, cache, tmp_path), *few]
    script = tmp_path / "script.py"
    script.write_text(
        f"import fedmri\nprint(fedmri.Study({str(hospitals)!r}, settings={given!r}).run().folder)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (Path(done.stdout.strip()) / "report.html").exists()
