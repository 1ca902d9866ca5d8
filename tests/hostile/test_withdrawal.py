"""A patient withdraws consent: barred from then on, and what they were part of is said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from fedmri.agreement.signed_plan import SignedPlan
from fedmri.assembly import assemble
from fedmri.clients.consent.approval import approve, keep_seen
from fedmri.clients.consent.withdrawn import Withdrawn
from fedmri.clients.process import worker
from fedmri.clients.process.home import ClientHome
from fedmri.clients.training.own_data import PREPARED, own_features
from fedmri.data.patients import without_patients
from fedmri.data.preparation.prepared import read_site
from fedmri.data.scans import Finding, Scan, ScanTable
from fedmri.errors import HarmonizeError, PrivacyError
from fedmri.plan import Plan
from fedmri.round import Weights
from fedmri.wire import UPDATE, EvaluateOrder, TrainOrder, content_of, read_answer, unbundle
from tests.clients.conftest import OWN, Sign
from tests.conftest import program
from tests.hostile.conftest import Order, code_of, with_policy

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # flwr's


@pytest.fixture
def signed(plan: Plan, sign: Sign, home: ClientHome) -> SignedPlan:
    """Return the plan, signed, and approved twice: it is run again after a withdrawal."""
    with_policy(home)
    return agreed(home, sign(plan))


def agreed(home: ClientHome, signed: SignedPlan) -> SignedPlan:
    """Let a person at the site approve a plan."""
    keep_seen(home, signed)
    approve(home, signed, "command")
    return signed


def forget(home: ClientHome, *words: str) -> str:
    """Call the command; return what it printed."""
    result = CliRunner().invoke(program(), ["client", "forget", *words, "--dir", str(home.folder)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def trained(order: Order, signed: SignedPlan, run: str) -> Weights:
    """Return the weights that two rounds of a run end with, this site alone."""
    model = assemble(signed.plan).entries
    for index in (1, 2):
        reply = order(signed, content_of(TrainOrder(index, model)), "train", run)
        assert code_of(reply) == "ok"
        update = read_answer(UPDATE, OWN, unbundle(reply.content))
        model = {name: value.clone() for name, value in update.weights.items()}
    return model


def in_use(home: ClientHome) -> set[str]:
    """Return the patients of a site's prepared data."""
    found: set[str] = set()
    for path in home.runs.glob(f"*/*/{PREPARED}"):
        found |= {scan.subject for scan in read_site(path).scans}
    return found


def a_training_patient(home: ClientHome) -> str:
    """Return a patient whom the site trains on, of the class of most others."""
    [path] = home.runs.glob(f"*/*/{PREPARED}")
    return next(scan.subject for scan in read_site(path).scans if scan.split == "train")


def test_repeated_without_the_patient_a_run_has_the_bits_of_one_that_never_had_them(
    order: Order, signed: SignedPlan, home: ClientHome, own_scans: Path
) -> None:
    """The client runs on; the second run is that of a hospital whose folder lacks the patient."""
    with_patient = trained(order, signed, "first")
    subject = a_training_patient(home)
    assert "2 rounds left here" in forget(home, subject)
    without = trained(order, agreed(home, signed), "second")
    assert any(not v.equal(without[name]) for name, v in with_patient.items())
    assert subject not in in_use(home)

    # the same hospital, had the patient never come
    shutil.rmtree(own_scans / f"sub-{subject}")
    for table in own_scans.rglob(f"*{subject}*"):
        shutil.rmtree(table) if table.is_dir() else table.unlink()
    table = own_scans / "participants.tsv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if subject not in line))
    home.withdrawn.unlink()
    shutil.rmtree(home.runs)
    shutil.rmtree(home.cache)
    worker._prepared.cache_clear()  # a client that starts
    never = trained(order, agreed(home, signed), "third")
    assert never.keys() == without.keys() > set()
    assert all(value.equal(without[name]) for name, value in never.items())


def test_the_patient_is_gone_from_disk_and_no_list_names_them(
    order: Order, signed: SignedPlan, home: ClientHome
) -> None:
    """Prepared scans, results and manifests; what is for the coordinator has no name either."""
    model = trained(order, signed, "first")
    assert (
        code_of(order(signed, content_of(EvaluateOrder(2, "test", model)), "evaluate", "first"))
        == "ok"
    )
    tested = {
        json.loads(line)["subject"]
        for path in home.runs.rglob("cases.jsonl")
        for line in path.read_text().splitlines()
    }
    subject = sorted(tested)[0]
    n_before = len(list(home.cache.rglob("*.npy")))
    said = json.loads(forget(home, subject, "--json"))
    assert said["withdrawn_from"] == [{"plan": signed.sha256, "run": "first", "n_rounds": 2}]
    assert subject not in json.dumps(said)
    assert len(list(home.cache.rglob("*.npy"))) < n_before
    named = [
        path
        for path in home.folder.rglob("*")
        if path.is_file() and path.suffix in (".json", ".jsonl", ".tsv", ".txt")
        if subject in path.read_text(errors="replace")
    ]
    assert named == []
    assert subject in Withdrawn.of(home)
    assert "Barred" in forget(home, subject)  # a second time is no mistake


def test_a_withdrawal_gives_no_second_scoring(
    order: Order, signed: SignedPlan, home: ClientHome
) -> None:
    """Scores with and without a patient would be that patient's: the first answer stands."""
    model = trained(order, signed, "run")
    ask = content_of(EvaluateOrder(2, "test", model))
    before = order(signed, ask, "evaluate")
    tested = next(
        json.loads(path.read_text().splitlines()[0])["subject"]
        for path in home.runs.rglob("cases.jsonl")
    )
    forget(home, tested)
    after = order(signed, ask, "evaluate")
    assert unbundle(after.content) == unbundle(before.content)
    other = content_of(EvaluateOrder(2, "test", {n: v * 2 for n, v in model.items()}))
    assert code_of(order(signed, other, "evaluate")) == "P13"
    assert code_of(order(signed, content_of(TrainOrder(2, model)), "train")) == "ok"
    assert tested not in in_use(home)


def test_who_is_not_there_is_asked_about(home: ClientHome, own_scans: Path) -> None:
    """A slip of the hand must not look like a withdrawal."""
    call = ["client", "forget", "nobody", "--dir", str(home.folder)]
    refused = CliRunner().invoke(program(), call)
    assert "[U32]" in str(refused.exception)
    assert not home.withdrawn.exists()
    assert "Barred" in forget(home, "nobody", "--absent")
    someone = next(own_scans.glob("sub-*")).name
    assert "Barred" in forget(home, someone)  # with its prefix
    assert someone.removeprefix("sub-") in Withdrawn.of(home)


def test_a_site_that_has_joined_nothing_can_forget_too(home: ClientHome) -> None:
    """Consent may be withdrawn before the first plan."""
    home.consortium_file.unlink()
    assert json.loads(forget(home, "sub-1", "--absent", "--json"))["withdrawn_from"] == []
    assert "1" in Withdrawn.of(home)


def test_the_list_is_no_list_of_patients(home: ClientHome, tmp_path: Path) -> None:
    """Without the site's secret a name cannot be tried."""
    forget(home, "sub-0815", "--absent")
    assert "0815" not in home.withdrawn.read_text()
    assert home.withdrawn.stat().st_mode & 0o077 == 0
    assert "0815" in Withdrawn.of(home)
    assert "0815" not in Withdrawn(home.withdrawn, bytes(32))
    home.secret.write_bytes(bytes(32))  # restored without the keys: it must not open the door
    with pytest.raises(PrivacyError, match=r"another secret.*\[P17\]"):
        Withdrawn.of(home)


@pytest.mark.parametrize("name", ["MR01", "MR01A", "MR01B"])
def test_with_one_visit_the_patient_goes(name: str) -> None:
    """A pattern makes two names one patient, whichever of the three is given."""
    scans = tuple(Scan("s", subject, "", {}) for subject in ("MR01A", "MR01B", "MR02A"))
    finding = Finding("D11", "odd", "s", "MR01B")
    table = without_patients(ScanTable(scans, (finding,), {}), {name}, r"(MR\d+)[A-Z]?")
    assert [scan.subject for scan in table.scans] == ["MR02A"]
    assert [(found.code, found.subject) for found in table.findings] == [("D76", "")]


def test_who_is_named_by_a_visit_is_barred_with_all_of_them(
    home: ClientHome, sign: Sign, plan: Plan, tmp_path: Path
) -> None:
    """Also where the visit that was named is deleted, and another one comes later."""
    source = replace(plan.data.source, patient_pattern=r"(MR\d+)[A-Z]?")
    keep_seen(home, sign(replace(plan, data=replace(plan.data, source=source))))
    forget(home, "MR01A", "--absent")
    gone = Withdrawn.of(home)
    scans = tuple(Scan("s", subject, "", {}) for subject in ("MR01B", "MR02A", "1"))
    table = without_patients(ScanTable(scans, (), {}), gone, source.patient_pattern)
    assert [scan.subject for scan in table.scans] == ["MR02A", "1"]


def test_rows_of_a_table_go_too(home: ClientHome, tmp_path: Path) -> None:
    """A copy without the row is used; other rows keep their bytes."""
    table = tmp_path / "features.csv"
    table.write_bytes(b'participant_id;"left, mm"\r\nsub-1;3,5\r\nsub-2; 4\r\n')
    home.settings_file.write_text(f"features: {table}\n")
    forget(home, "2")
    gone = Withdrawn.of(home)
    found = own_features(home.config, tmp_path / "copy", gone)
    assert found.read_bytes() == b'participant_id;"left, mm"\r\nsub-1;3,5\r\n'
    assert own_features(home.config, tmp_path / "other") == table
    table.write_text("volume,area\n3,1\n4,2\n")
    with pytest.raises(HarmonizeError, match=r"no column of subjects.*\[H40\]"):
        own_features(home.config, tmp_path / "copy", gone)
