"""Every script and notebook of ``examples/`` runs alone, and shows what it says."""

from __future__ import annotations

import ast
import json
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmri.models.registry import MODELS
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.registry import TASKS

FOLDER = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NUMBER = r"-?\d\.\d+"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in a folder of its own, with a home there, and forget classes of scripts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    yield
    for registry in (MODELS, STRATEGIES, TASKS):
        registry.held.clear()


def quick_start(said: str) -> None:
    """All kinds of models have a score within its interval, and there is a page."""
    rows = re.findall(rf"^ *(\w.*?) +({NUMBER}) +({NUMBER}) +({NUMBER}) +\d+$", said, re.M)
    assert {"federated", "pooled", "local (own site)", "baseline"} <= {row[0] for row in rows}
    assert all(float(low) <= float(value) <= float(high) for _, value, low, high in rows)
    assert Path(said.split()[-1]).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def check_data(said: str) -> None:
    """The file that was cut off is found, told with its code, and whole again afterwards."""
    assert re.search(r"D07 +site\d+ +1 ", said)
    n_found = sum(map(int, re.findall(r"^site\d+ +\d+ +(\d+)$", said, re.M)))
    assert f"Mended: {n_found} scans can be used." in said
    told = Path("manifest.tsv").read_text(encoding="utf-8").splitlines()
    assert sum("D07" in line for line in told) == 1


def compare_strategies(said: str) -> None:
    """Each strategy is compared with the first one."""
    pairs = set(re.findall(r"federated:(\w+) federated:(\w+)", said))
    assert pairs == {("fedprox", "fedavg"), ("fedadam", "fedavg")}


def own_strategy(said: str) -> None:
    """The class of the script stands beside an installed one."""
    assert {"fedavg", "half_step"} == set(re.findall(r"federated:(\w+)", said))


def own_model(said: str) -> None:
    """One channel and three classes: 3 weights and 3 biases, then 27 blocks for each class."""
    assert re.findall(r"network of (\d+) weights", said) == [str(3 + 3), str(27 * 3 + 3)]


def own_task(said: str) -> None:
    """The loss of the script was minimised: a higher quantile is a higher age."""
    ages = dict(re.findall(r"share (0\.\d): age (\d+\.\d)", said))
    assert float(ages["0.1"]) + 5 < float(ages["0.9"])


def own_arrays(said: str) -> None:
    """The model of the arrays has a Dice."""
    dice = re.search(rf"federated +({NUMBER})", said)
    assert dice is not None
    assert 0 <= float(dice[1]) <= 1


def harmonize_table(said: str) -> None:
    """Scanners differ less than before, and the last rows came out of the saved fit."""
    before, after = map(float, re.findall(r"sites differ by ([\d.]+)", said))
    assert after < before / 2
    assert said.count("Como") == 3


def private_training(said: str) -> None:
    """The whole training costs what was asked for, and the report tells it."""
    costs = [float(text) for text in re.findall(rf"^ +\d+ +({NUMBER})$", said, re.M)]
    assert costs[-1] == pytest.approx(8, abs=0.05)
    [page] = re.findall(r"spent: (\S+)", said)
    assert "epsilon" in Path(page).read_text(encoding="utf-8")


def predict(said: str) -> None:
    """The mask lies on the grid of its scan, and the file was scored."""
    import nibabel as nib
    import numpy as np

    [mask] = re.findall(r"^(.*dseg\.nii\.gz|.*mask\.nii\.gz)$", said, re.M)
    [scan] = Path("other-data").rglob(f"{Path(mask).name.split('_')[0]}_*FLAIR.nii.gz")
    made: Any = nib.load(mask)
    given: Any = nib.load(scan)
    assert np.array_equal(made.affine, given.affine)
    assert made.shape == given.shape
    assert re.search(r"\{'model': 0\.\d+\}", said)


LAWS: tuple[Callable[[str], None], ...] = (
    quick_start,
    check_data,
    compare_strategies,
    own_strategy,
    own_model,
    own_task,
    own_arrays,
    harmonize_table,
    private_training,
    predict,
)
TRUE = {law.__name__: law for law in LAWS}
"""What is true of the output of each script."""


def test_there_are_examples_and_each_is_looked_at() -> None:
    """A new script says what is true of it, and the page names every file."""
    assert {script.stem for script in SCRIPTS} == set(TRUE)
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in (*SCRIPTS, *NOTEBOOKS)} == set(re.findall(r"\]\((\S+)\)", page))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs_and_what_it_prints_is_true(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From nothing, in an empty folder; it is short and begins with what it shows."""
    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 42
    assert ast.get_docstring(ast.parse(text))
    runpy.run_path(str(script), run_name="__main__")
    TRUE[script.stem](capsys.readouterr().out)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_outputs(notebook: Path) -> None:
    """Outputs would show another version's numbers, and a reader's own paths."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


@pytest.mark.parametrize(
    "notebook",
    [  # a kernel loads everything anew: one stands for the others in the quick tests
        pytest.param(path, id=path.stem, marks=() if path is NOTEBOOKS[0] else pytest.mark.slow)
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs_with_its_progress_in_view(notebook: Path) -> None:
    """In a real kernel: every cell runs, the bar ends at the last round, tables are shown."""
    nbformat = pytest.importorskip("nbformat", reason="comes with the extra `dev`")
    nbclient = pytest.importorskip("nbclient", reason="comes with the extra `dev`")
    pytest.importorskip("ipykernel", reason="comes with the extra `dev`")
    read = nbformat.read(notebook, as_version=4)
    nbclient.NotebookClient(read, timeout=120, kernel_name="python3").execute()
    outputs = [out for cell in read.cells for out in cell.get("outputs", ())]
    drawn = [out["data"]["text/plain"] for out in outputs if out["output_type"] == "display_data"]
    assert re.search(r"federated.*2/2", drawn[-1]), drawn
    assert not any('install "ipywidgets"' in str(out) for out in outputs)
    tables = [out for out in outputs if "text/html" in out.get("data", {})]
    assert len(tables) >= 1
    assert "federated" in tables[-1]["data"]["text/html"]
