"""Trackers get the numbers of a run by round, arm and hospital, and nothing of a patient."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import fedmri
from fedmri.api.tracking.tracked import Training, refuse_absent, track, tracked
from fedmri.config import Experiment, load_resolved
from fedmri.errors import ConfigError
from fedmri.reports.results import load_results
from tests.conftest import RunTiny

QUICK = ("rounds.n_rounds=2", "simulation.arms=[federated,local]", "train.local_steps=1")


def with_trackers(run: Path, *names: str) -> Experiment:
    """Return the settings of a run, with further trackers."""
    experiment = load_resolved(run / "config.yaml")
    simulation = replace(experiment.simulation, trackers=names)  # type: ignore[arg-type]
    return replace(experiment, simulation=simulation)


def names_of_patients(hospitals: Path) -> list[str]:
    """Return the patients of the data set."""
    rows = (hospitals / "participants.tsv").read_text().splitlines()[1:]
    return [row.split("\t")[0].removeprefix("sub-") for row in rows]


def test_tensorboard_reads_the_very_numbers_of_the_records(
    run_tiny: RunTiny, hospitals: Path
) -> None:
    """A folder for each training; no byte of them names a patient or the data's place."""
    pytest.importorskip("tensorboard", reason="the extra track is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = run_tiny("a", *QUICK)
    experiment = with_trackers(run)
    for _ in range(2):  # the second time as after a resumed run
        (folder,) = track(run, experiment)
    trainings = {one.name: one for one in tracked(load_results(run))}
    assert set(trainings) == {"federated/seed-0", *(f"local:site0{i}/seed-0" for i in (1, 2, 3))}
    found = {}
    for place in folder.iterdir():
        events = EventAccumulator(str(place)).Reload()
        tags = events.Tags()
        found[frozenset((tag, e.step) for tag in tags["scalars"] for e in events.Scalars(tag))] = (
            place
        )
        if place.name == "settings":
            assert tags["tensors"] == ["settings"]
    for one in trainings.values():
        own = frozenset((scalar.name, scalar.round_index) for scalar in one.scalars)
        events = EventAccumulator(str(found[own])).Reload()
        for name, step, value in one.scalars:
            assert value == pytest.approx(
                next(e.value for e in events.Scalars(name) if e.step == step), rel=1e-6
            )
    names = {scalar.name for scalar in trainings["federated/seed-0"].scalars}
    assert {"validation/balanced_accuracy/site01", "round/bytes_up/site02"} <= names
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"rounds:" in content
    assert str(hospitals).encode() not in content
    assert not [name for name in names_of_patients(hospitals) if name.encode() in content]


def test_an_absent_tracker_is_told_before_anything_is_trained(
    hospitals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"no wandb.*pip install 'fedmri\[track\]'.*\[C05\]"):
        fedmri.Study(hospitals, settings=["simulation.trackers=[wandb]"]).begun()
    refuse_absent(())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_other_trackers_write_offline_and_name_no_patient(
    name: str, run_tiny: RunTiny, hospitals: Path
) -> None:
    """In a process of its own, whose sockets to anywhere but itself would fail."""
    pytest.importorskip(name, reason="the extra track is not installed")
    run = run_tiny("a", *QUICK)
    (run / "names.txt").write_text(json.dumps(names_of_patients(hospitals)))
    code = (
        "import sys\nfrom pathlib import Path\nfrom dataclasses import replace\n"
        "from fedmri.config import load_resolved\n"
        "from fedmri.api.tracking.tracked import track\n"
        "run, e = Path(sys.argv[1]), load_resolved(Path(sys.argv[1]) / 'config.yaml')\n"
        "track(run, replace(e, simulation=replace(e.simulation, trackers=(sys.argv[2],))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run), name], check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    files = [path for path in (run / name).rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert b"validation/balanced_accuracy/site01" in content
    assert str(hospitals).encode() not in content
    assert not [who for who in names_of_patients(hospitals) if who.encode() in content]


def test_only_finite_numbers_with_a_round_are_tracked(run_tiny: RunTiny) -> None:
    """Hashes, states and seeds are no scores."""
    run = run_tiny("a", "rounds.n_rounds=1", "simulation.arms=[federated]", "train.local_steps=1")
    assert tracked(load_results(run)) == tracked(load_results(run))
    (one,) = tracked(load_results(run))
    assert isinstance(one, Training)
    assert not [
        name for name, _, _ in one.scalars if name.split("/")[1] in ("seed", "round", "sha256")
    ]
