"""The commands as their users meet them: help, results, mistakes and exit codes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from typer.models import ParameterInfo
from typer.utils import get_params_from_function

from docs.generate.man import man_pages
from fedmri.commands.examples import EXAMPLES
from fedmri.config import load
from fedmri.server.rounds.checkpoint import digest, load_weights_file
from tests.conftest import TINY, Command, Settings, program
from tests.test_deploy import parse

FEDMRI = [sys.executable, "-c", "from fedmri.cli import main; main()"]
HEAVY = ("torch", "monai", "flwr", "ray", "hydra", "torchio", "pandas", "matplotlib")


def fedmri(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a shell would, in a folder of its own."""
    return subprocess.run(
        [*FEDMRI, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """`fedmri --help` answers at once: no network library, no training library is loaded."""
    code = (
        "import sys, runpy\n"
        "from fedmri.cli import app\n"
        "try:\n    app(['simulate', '--help'])\n"
        "except SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of a command and of every command below it."""
    yield path
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, (*path, name))


def words(text: str) -> str:
    """Return a text's words alone: without frames, line breaks and what stands in brackets."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize("path", list(commands(program())), ids=" ".join)
def test_every_command_explains_itself(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 80 columns, help shows the sentence of the command, of each option and each argument."""
    monkeypatch.setenv("COLUMNS", "80")
    declared = program()
    for name in path:
        assert isinstance(declared, click.Group)
        declared = declared.commands[name]
    done = CliRunner().invoke(program(), [*path, "--help"], prog_name="fedmri")
    assert done.exit_code == 0, done.output
    said = words(done.output)
    assert said.startswith(f"Usage: {' '.join(('fedmri', *path))} ")
    sentence = words((declared.help or "").partition("\n\n")[0])
    assert sentence
    assert sentence in said
    infos = get_params_from_function(declared.callback) if declared.callback else {}
    for name, info in infos.items():
        if isinstance(info.default, ParameterInfo):
            column = words(info.default.help or "")
            assert column.endswith("."), f"{name} has no sentence"
            assert is_shown(column, done.output), f"{name}: {column}"


@pytest.mark.parametrize("path", list(commands(program())), ids=" ".join)
def test_the_help_of_every_command_has_an_example_that_can_be_typed(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins with the words of the command, and everything in it is known to the program."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    done = CliRunner().invoke(program(), [*path, "--help"], prog_name="fedmri")
    example = EXAMPLES.get(" ".join(path))
    assert example, "put it into fedmri/commands/examples.py"
    assert f"Example: {example}" in words(done.output)
    typed = shlex.split(example)
    assert tuple(typed[: len(path) + 1]) == ("fedmri", *path)
    for word in typed:
        if Path(word).suffix in {".yaml", ".csv", ".md", ".fedmri", ".pub", ".json"}:
            Path(word).touch()  # must be there to be parsed
    parse(typed[1:])


def test_the_version_is_the_one_that_is_installed() -> None:
    """One line that a bug report can quote."""
    done = CliRunner().invoke(program(), ["--version"], prog_name="fedmri")
    assert (done.exit_code, done.output) == (0, f"fedmri {version('fedmri')}\n")


def is_shown(sentence: str, output: str) -> bool:
    """Tell whether a sentence stands in the last column of a table of options, over its lines."""
    wanted = sentence.replace(" ", "")
    letters = [
        line.strip(" │").rpartition("  ")[2].replace(" ", "") for line in output.splitlines()
    ]
    return wanted in "".join(letters)


@pytest.fixture(scope="module")
def finished(
    hospitals: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, str]:
    """Return the folder, standard output and standard error of a finished simulation."""
    cwd = tmp_path_factory.mktemp("cli")
    settings = [*TINY, f"simulation.cache={cache}", "simulation.arms=[federated,local]"]
    done = fedmri("simulate", "--data", str(hospitals), "--sites", "2", *settings, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return next((cwd / "runs").iterdir()), done.stdout, done.stderr


def test_a_simulation_prints_the_table_and_where_the_report_lies(
    finished: tuple[Path, str, str],
) -> None:
    """In a pipe there are no bars, only the result; the report is one page without a network."""
    folder, out, err = finished
    assert "federated" in out
    assert "local (own site)" in out
    assert f"Report: runs/{folder.name}/report.html" in out
    assert err == ""
    page = (folder / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_run_folder_holds_what_is_needed_to_repeat_it(
    finished: tuple[Path, str, str], hospitals: Path
) -> None:
    """Settings, environment, fingerprints, manifest, records and the model are there.

    Of three hospitals the two largest by patients take part: each has a fingerprint of its own.
    """
    folder, _, _ = finished
    head, *table = (hospitals / "participants.tsv").read_text().splitlines()
    assert head.split("\t")[:2] == ["participant_id", "site"]
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["command"].startswith("fedmri")
    n_subjects = Counter(row.split("\t")[1] for row in table)
    largest = sorted(n_subjects, key=lambda site: (-n_subjects[site], site))[:2]
    fingerprints = environment["data_fingerprints"]
    assert sorted(fingerprints) == sorted(largest)
    assert len(set(fingerprints.values())) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in fingerprints.values())
    for name in ("config.yaml", "manifest.tsv", "metrics.jsonl", "used.json", "log.txt"):
        assert (folder / name).exists(), name
    assert (folder / "arms/federated/seed-0/model.safetensors").exists()


def test_the_report_command_prints_json_for_machines(
    finished: tuple[Path, str, str], here: Command
) -> None:
    """--json is one JSON document and nothing else."""
    folder, _, _ = finished
    done = here("report", str(folder), "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_dry_run_prints_settings_that_config_reads(here: Command, tmp_path: Path) -> None:
    """The output of --dry-run is a file for --config."""
    done = here("simulate", "--sites", "3", "train.lr=0.5", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "mine.yaml"
    file.write_text(done.stdout)
    experiment = load([], file)
    assert (experiment.partition.n_sites, experiment.plan.train.lr) == (3, 0.5)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["simulate", "train.ls=1"], 4, "train.lr"),
        (["simulate", "--data", "nowhere"], 3, "nowhere"),
        (["simulate", "--resume", "nowhere"], 2, "nowhere"),
        (["simulate", "--resume", "x", "--sites", "2"], 2, "--resume alone"),
        (["simulate", "--no-such-option"], 2, "no-such-option"),
        (["simulate", "--config", "nowhere.yaml"], 4, "nowhere.yaml"),
        (["data", "check", "nowhere"], 3, "nowhere"),
        (["report", "nowhere"], 2, "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_and_its_exit_status(
    arguments: list[str], status: int, said: str, here: Command, tmp_path: Path
) -> None:
    """What, found, wanted, how to fix; no traceback."""
    done = here(*arguments, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists(), "a refused run leaves no folder"


def test_too_many_sites_are_answered_with_what_there_is(
    hospitals: Path, tiny: Settings, here: Command, tmp_path: Path
) -> None:
    """Asking for 9 of 3 hospitals names those there are and partitions that would do it."""
    done = here("simulate", "--sites", "9", *tiny(), cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "found 3 (site01, site02, site03), want 9 or more" in done.stderr
    assert "draw sites with partition=iid, dirichlet or quantity" in done.stderr


def test_data_check_says_what_is_wrong(hospitals: Path, here: Command, tmp_path: Path) -> None:
    """A truncated scan is named in the manifest, and the sites are counted."""
    copy = tmp_path / "copy"
    shutil.copytree(hospitals, copy)
    bad = next(copy.glob("sub-*/anat/*_T1w.nii.gz"))
    bad.write_bytes(bad.read_bytes()[:200])
    done = here("data", "check", str(copy), "data.check.max_excluded=0.9", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "D07" in done.stdout
    subject = bad.name.split("_")[0].removeprefix("sub-")
    assert any(
        subject in line and "\tyes\t" in line
        for line in (tmp_path / "manifest.tsv").read_text().splitlines()
    )


def test_control_c_leaves_a_run_that_goes_on(tiny: Settings, here: Command, tmp_path: Path) -> None:
    """Ctrl-C in the middle says how to resume; the resumed run has the uninterrupted one's bits."""
    settings = tiny("rounds.n_rounds=15", "simulation.arms=[federated]")
    whole = here("simulate", *settings, "name=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    started = subprocess.Popen(
        [*FEDMRI, "simulate", *settings, "name=cut"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # tests in the background of a shell would hand down that it is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    records = tmp_path / "runs"
    while started.poll() is None:
        found = list(records.glob("*-cut/arms/federated/seed-0/metrics.jsonl"))
        if found and '"round": 2' in found[0].read_text():
            os.kill(started.pid, signal.SIGINT)
            break
        time.sleep(0.02)
    _, err = started.communicate()
    assert started.returncode == 130, err
    folder = next(records.glob("*-cut"))
    assert f"fedmri simulate --resume runs/{folder.name}" in err
    resumed = here("simulate", "--resume", f"runs/{folder.name}", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    models = [
        next(records.glob(f"*-{n}/arms/federated/seed-0/*.safetensors")) for n in ("whole", "cut")
    ]
    whole_weights, cut_weights = (load_weights_file(path)[0] for path in models)
    assert digest(whole_weights) == digest(cut_weights)  # the cards hold the runs' own names


def test_a_network_that_cannot_do_the_task_is_refused_before_the_data(
    here: Command, tmp_path: Path
) -> None:
    """A contradiction in the plan is found in seconds, not after an hour of preparation."""
    done = here("simulate", "model=densenet121", "--data", "nowhere", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "C20" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("before", ["", "example.org", "127.0.0.1,example.org"])
def test_loopback_goes_to_no_proxy(before: str, tmp_path: Path) -> None:
    """Tokens and weights that processes of one machine exchange are no proxy's business."""
    code = (
        "import os\nfrom fedmri import cli\ncli.app = lambda: print(os.environ['NO_PROXY'])\n"
        "cli.main()"
    )
    environment = {**os.environ, "NO_PROXY": before, "HTTP_PROXY": "http://proxy.invalid:1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    hosts = done.stdout.strip().split(",")
    assert {"127.0.0.1", "localhost"} <= set(hosts)
    assert set(before.split(",")) - {""} <= set(hosts)
    assert len(hosts) == len(set(hosts))


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        (["target.loss=bananas"], "want a loss for segmentation", 4),
        (
            ["data.prepare.shape=[7,9,3]"],
            "set data.prepare.size or data.prepare.shape to (16, 16, 16)",
            4,
        ),
        (["model=resnet18"], "want a network for segmentation", 4),
        (["strategy=scaffold"], "want plain SGD", 4),
        (["--data", "nowhere"], "found no folder", 3),
        (["--external", "nowhere"], "found no folder", 3),
        (["target.name=tumour"], "To fix: name your data with --data PATH. [C03]", 4),
        (["data.source.modalities=[T2w]"], "found modality 'T2w'", 4),
    ],
)
def test_a_dry_run_refuses_what_a_run_would(
    arguments: list[str], said: str, status: int, here: Command, tmp_path: Path
) -> None:
    """Settings that were printed as good and fail after hours of data would be worse than none."""
    done = here("simulate", "--dry-run", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_plan_without_data_is_not_rehearsed_on_made_patients(
    here: Command, tmp_path: Path
) -> None:
    """A consortium's plan names masks that the example data lack: nothing is made or trained."""
    target = "{kind: segmentation, name: glioma_mask, classes: [tumour]}"
    (tmp_path / "plan.yaml").write_text(f"target: {target}\n")
    done = here("simulate", "--config", "plan.yaml", cwd=tmp_path)
    assert done.returncode == 4
    assert "found target 'glioma_mask'" in done.stderr
    assert "--data PATH" in done.stderr


def test_each_command_has_a_manual_page_that_roff_takes(tmp_path: Path) -> None:
    """Every command below another has its page; groff has no warning about any."""
    pages = man_pages()
    assert {"fedmri.1", "fedmri-simulate.1", "fedmri-server-run.1"} <= pages.keys()
    assert "\\-\\-replay" in pages["fedmri-simulate.1"]
    if (program := shutil.which("groff")) is None:
        pytest.skip("groff is not installed")
    for name, text in pages.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [program, "-man", "-ww", "-z", "-Kutf8", *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
