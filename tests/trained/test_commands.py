"""The commands of a finished model, as their users meet them."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedmri.cli import main
from fedmri.models.weights import digest
from fedmri.trained.file.card import from_json
from fedmri.trained.file.model_file import read_model
from tests.conftest import TINY
from tests.trained.conftest import Train, images

Fedmri = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fedmri(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Fedmri]:
    """Return what runs a command here and gives its exit status, output and errors."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["fedmri", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    yield run
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)


def test_predict_writes_and_says_what_it_wrote(
    fedmri: Fedmri, train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """One line for the result, and status 0 where every scan has a prediction."""
    code, out, _ = fedmri("predict", train("kind").path, *images(hospitals, "T1w")[:2])
    assert code == 0
    assert "2 scans predicted, 0 with warnings; 0 left out. Results: predictions" in out
    assert (tmp_path / "predictions/participants.tsv").exists()


def test_predict_ends_with_3_where_a_scan_was_left_out(
    fedmri: Fedmri, train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """The others are written; the bad one stands in the output, the table and the error."""
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    words = ("predict", train("mask").path, "bad.nii.gz", images(hospitals, "FLAIR")[0])
    code, out, err = fedmri(*words, "--out", "here")
    assert code == 3
    assert "Left out: sub-bad: " in out
    assert "1 left out, such as sub-bad [D07]" in err
    assert "[D83]" in err
    assert "sub-bad\tn/a" in (tmp_path / "here/predictions.tsv").read_text()
    assert len(list((tmp_path / "here").rglob("*_dseg.nii.gz"))) == 1


def test_predict_as_json_names_every_scan(fedmri: Fedmri, train: Train, hospitals: Path) -> None:
    """A machine reads what was predicted and what was not."""
    path = images(hospitals, "FLAIR")[0]
    code, out, _ = fedmri("predict", train("mask").path, path, "missing.nii.gz", "--json")
    said = json.loads(out)
    assert code == 3
    assert list(said["predicted"]) == [path.name.removesuffix("_FLAIR.nii.gz")]
    assert [one["code"] for one in said["left_out"]] == ["D84"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), "found none, want one or more"),
        (("--modality", "FLAIR"), "want NAME=PATH"),
        (("--modality", "T2w=x.nii"), "found T2w, want among FLAIR"),
    ],
)
def test_a_mistake_of_predict_is_one_line(
    fedmri: Fedmri, train: Train, words: tuple[str, ...], found: str
) -> None:
    """Status 2, and nothing is written."""
    code, _, err = fedmri("predict", train("mask").path, *words)
    assert code == 2
    assert found in err
    assert not Path("predictions").exists()


def test_a_check_that_would_not_be_made_is_refused(
    fedmri: Fedmri, train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Without results in DICOM nobody looks at the patient's number."""
    words = ("predict", train("kind").path, images(hospitals, "T1w")[0], "--patient", "123")
    code, _, error = fedmri(*words)
    assert code == 2
    assert "--patient: found no results in DICOM" in error
    assert not (tmp_path / "predictions").exists()


def test_scores_as_json_name_what_was_left_out(
    fedmri: Fedmri, train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """A machine learns of a scan that was not scored, as a person does."""
    data = tmp_path / "data"
    shutil.copytree(hospitals, data)
    images(data, "T1w")[0].write_bytes(b"damaged")
    code, text, _ = fedmri("score", train("kind").path, data, "--json")
    assert code == 0
    assert [gone[0] for gone in json.loads(text)["left_out"]] == ["D07"]


def test_show_prints_the_card(fedmri: Fedmri, train: Train) -> None:
    """What it predicts, from what, with which preparation, and what it is for."""
    run = train("nyul")
    code, out, _ = fedmri("show", run.path)
    facts = {line.partition("  ")[0]: line for line in out.splitlines()}
    assert code == 0
    assert facts["predicts"].endswith("segmentation of mask (lesion)")
    assert facts["reads"].endswith("FLAIR")
    assert "voxels of 12 mm" in facts["preparation"]
    assert facts["harmonization"].endswith("nyul")
    assert "3 sites; fedavg, round 1 of 1" in facts["trained"]
    assert "Not a medical device" in facts["intended use"]
    _, text, _ = fedmri("show", run.path, "--json")
    assert from_json(text) == run.model.card


def test_score_prints_the_table_of_a_simulation(
    fedmri: Fedmri, train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Sites beside each other, the metric with its interval; as JSON all numbers."""
    run = train("kind")
    names = [path.name.split("_")[0] for path in images(hospitals, "T1w")]
    # as Windows' own editor saves it
    (tmp_path / "patients.txt").write_text("\r\n".join(names) + "\r\n", encoding="utf-16")
    words = ("score", run.path, hospitals, "--patients", "patients.txt")
    code, out, _ = fedmri(*words)
    assert code == 0
    assert "site01" in out
    assert "Balanced accuracy" in out
    _, text, _ = fedmri(*words, "--json")
    said = json.loads(text)
    assert said["metric"] == "balanced_accuracy"
    assert said["n_subjects"] == len(names)
    assert sorted(said["rows"][0]["by_site"]) == ["site01", "site02", "site03"]
    (tmp_path / "patients.txt").write_bytes(bytes(range(256)))
    code, _, error = fedmri(*words)
    assert code == 2
    assert "--patients patients.txt: found bytes that are no text" in error


def test_the_end_of_a_simulation_puts_its_scores_into_the_models_file(
    fedmri: Fedmri, hospitals: Path, cache: Path, tmp_path: Path
) -> None:
    """Each arm's file has the intervals of the report; a second report changes no byte."""
    settings = [*TINY, f"simulation.cache={cache}", "simulation.arms=[federated,local]"]
    code, out, _ = fedmri("simulate", "--data", hospitals, *settings, "--json")
    assert code == 0
    [row] = [row for row in json.loads(out)["rows"] if row["label"] == "federated"]
    [run] = (tmp_path / "runs").iterdir()
    path = run / "arms/federated/seed-0/model.safetensors"
    file = read_model(path)
    found = file.card.scores["balanced_accuracy"]
    wanted = row["overall"]["balanced_accuracy"]
    assert [found.value, found.low, found.high] == [wanted[k] for k in ("value", "low", "high")]
    assert digest(file.weights) == file.card.sha256
    before = path.read_bytes()
    assert fedmri("report", run)[0] == 0
    assert path.read_bytes() == before
    alone = read_model(run / "arms/local-site01/seed-0/model.safetensors").card
    assert (alone.role, alone.n_sites) == ("local", 1)
    assert alone.scores
    spoiled = run / "arms/local-site02/seed-0/model.safetensors"
    spoiled.write_bytes(b"an older or damaged file")
    shutil.copyfile(spoiled, path)
    assert fedmri("report", run)[0] == 0  # a run of before can still be looked at
