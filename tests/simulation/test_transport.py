"""Updates in fewer bits, from the sites' networks to the final model."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from fedmri.config import load
from fedmri.models.build import build_network
from fedmri.models.weights import weights
from fedmri.plan import Plan
from fedmri.round import Update, Weights
from fedmri.server.rounds.records import Record
from fedmri.simulation.arms.arm_runs import ArmSites
from fedmri.simulation.arms.running import arm_runs
from fedmri.simulation.engines.blocks import Block
from fedmri.simulation.settings import SimulationConfig
from fedmri.updates.codec import PLAIN, declared, encode
from fedmri.wire import UPDATE, content_of, put_together, read_answer, take_apart
from tests.conftest import TINY, RunTiny
from tests.simulation.test_study import StopHere, model_of, records
from tests.test_wire import same

INT8 = ("transport.update=difference", "transport.dtype=int8")
BF16 = ("transport.dtype=bf16",)
EACH = pytest.mark.parametrize("settings", [INT8, BF16], ids=["int8", "bf16"])
FEDERATED = "simulation.arms=[federated]"


def tiny_plan(*settings: str) -> Plan:
    """Return the plan of the tiny study."""
    return load([*TINY, *settings]).plan


def model(plan: Plan) -> Weights:
    """Return the initial weights of a plan."""
    return weights(build_network(plan.model, **plan.network))


def stop_in_round(last: int, record: Record) -> None:
    """End the run when the first site has answered in a round."""
    if record["kind"] == "round" and record["round"] == last:
        raise StopHere


@EACH
def test_rounded_updates_give_the_same_bits_after_a_crash(
    run_tiny: RunTiny, settings: tuple[str, ...]
) -> None:
    """The first site of round 3 trains it twice, and both times adds what round 2 left out."""
    settings = (*settings, FEDERATED, "rounds.n_rounds=3")
    whole = model_of(run_tiny("whole", *settings))
    with pytest.raises(StopHere):
        run_tiny("stopped", *settings, observe=lambda record: stop_in_round(3, record))
    assert model_of(run_tiny("stopped", *settings)) == whole


def test_what_rounding_left_out_goes_into_the_next_update(
    run_tiny: RunTiny, tmp_path: Path
) -> None:
    """Sites that lose what they kept end with another model: it was added, not only stored."""
    settings = (*INT8, FEDERATED, "rounds.n_rounds=2")
    whole = model_of(run_tiny("whole", *settings))
    with pytest.raises(StopHere):
        run_tiny("lost", *settings, observe=lambda record: stop_in_round(2, record))
    folders = list((tmp_path / "lost").glob("sites/*/federated/seed-0/state"))
    assert len(folders) == 3
    for folder in folders:
        shutil.rmtree(folder)
    assert model_of(run_tiny("lost", *settings)) != whole


def test_recorded_bytes_are_those_that_travelled(run_tiny: RunTiny) -> None:
    """Up the encoded entries, down the whole model."""
    plan = tiny_plan(*INT8)
    folder = run_tiny("a", *INT8, FEDERATED)
    forms = declared(model(plan), plan.transport).values()
    up = sum(form.dtype.itemsize * math.prod(form.shape) for form in forms)
    down = sum(value.nbytes for value in model(plan).values())
    found = {(r["bytes_up"], r["bytes_down"]) for r in records(folder, kind="round")}
    assert found == {(up, down)}
    assert up < 0.4 * down


@EACH
def test_encoded_updates_pass_through_shared_memory(
    settings: tuple[str, ...], tmp_path: Path
) -> None:
    """Worker processes hand over the same bits of types that a network does not have."""
    plan = tiny_plan(*settings)
    arrays = encode(model(plan), model(tiny_plan("seed=1")), plan.transport, {}).arrays
    skeleton, flat = take_apart(content_of(Update("a", arrays, 1, 1)))
    written = Block(tmp_path / "block").write(flat)
    there = put_together(skeleton, Block(tmp_path / "block").read(written))
    assert same(read_answer(UPDATE, "a", there).weights, arrays)


def test_a_single_data_holder_rounds_nothing() -> None:
    """Nothing of it travels, so the arms that federated learning is compared with stay exact."""
    files = {name: Path(name) for name in "abc"}
    sites = ArmSites(files, whole=files)
    runs = arm_runs(tiny_plan(*INT8), SimulationConfig(protocol="loso"), sites)
    rounded = {run.label for run in runs if run.plan.transport != PLAIN}
    assert rounded == {"federated", "loso:a", "loso:b", "loso:c"}
