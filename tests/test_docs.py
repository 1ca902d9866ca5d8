"""What a reader copies from a page works: Python blocks run, commands exist, cheap ones run.

A block that cannot run says so and why, in its first line and on the page:
``title="not run by the tests: REASON"``. Commands in it must exist all the same.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fedmri.config import load
from fedmri.data.synthetic.data_set import SyntheticConfig, generate
from tests.conftest import Command
from tests.test_deploy import parse

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^```(?P<language>\w+)(?P<mark>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
MARK = re.compile(r' title="not run by the tests: [^"]{10,}"')
SETTING = re.compile(r"\s[a-z_.]+=")
TUTORIALS = ROOT / "docs/tutorials"


def name_of(path: Path) -> str:
    """Return a document's path from the root of the repository."""
    return path.relative_to(ROOT).as_posix()


def blocks(document: Path, language: str, *, marked: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the first line and the code of a document's blocks that run, or of all of them."""
    text = document.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        if block["language"] == language and (marked or not block["mark"]):
            yield text.count("\n", 0, block.start("code")), block["code"]


def commands(document: Path, *, marked: bool = False) -> list[str]:
    """Return the commands of fedmri in a document's blocks, without what stands before them."""
    found = []
    for _, code in blocks(document, "bash", marked=marked):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "fedmri" in words:
                found.append(shlex.join(words[words.index("fedmri") :]))
    return found


SHOWN = [(name_of(path), line) for path in DOCUMENTS for line in commands(path, marked=True)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_block_that_does_not_run_says_why(document: Path) -> None:
    """There is one mark, and it has a reason."""
    for block in BLOCK.finditer(document.read_text(encoding="utf-8")):
        is_run = block["language"] in {"python", "bash"}
        assert not block["mark"] or (is_run and MARK.fullmatch(block["mark"])), block["mark"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_the_python_blocks_of_a_document_run_in_order(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reader copies from a page works; the blocks of a page build on each other."""
    monkeypatch.chdir(tmp_path)
    page = ModuleType(document.stem)
    monkeypatch.setitem(sys.modules, document.stem, page)
    for first_line, block in blocks(document, "python"):
        code = compile("\n" * first_line + block, document, "exec", dont_inherit=True)
        exec(code, vars(page))


def test_commands_are_found() -> None:
    """A change of the pages' form does not leave the tests below without a command."""
    shown = {" ".join(line.split()[:3]) for _, line in SHOWN}
    assert {"fedmri data check", "fedmri client approve", "fedmri server run"} <= shown
    assert len(SHOWN) > 60


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=lambda text: str(text)[:60])
def test_a_command_can_be_typed_with_its_settings(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It exists, its options too, nothing that is required lacks, and its settings are known."""
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(line)[1:]
    for word in arguments:
        if word.endswith(".yaml"):
            Path(word).touch()  # must be there to be parsed
    context = parse(arguments)
    settings = context.params.get("overrides") or []
    assert context.params.get("overrides") is not None or not SETTING.search(line)
    load(settings)


def test_the_commands_of_the_tutorial_for_researchers_run(
    here: Command,
    tmp_path: Path,
) -> None:
    """From nothing to a report, in the order of the page and in one folder."""
    done = [
        here(*shlex.split(line)[1:], cwd=tmp_path) for line in commands(TUTORIALS / "researcher.md")
    ]
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 6
    assert (tmp_path / "manifest.tsv").exists()
    (report,) = tmp_path.glob("runs/*/report.html")
    assert f"Report: {report.relative_to(tmp_path)}" in done[3].stdout


FIRST_STEPS = {
    "coordinator.md": [
        "fedmri server init coordinator --name fl.example.org",
        "fedmri server enroll hospital-a site.pub --max-patients 400 --dir coordinator",
    ],
    "hospital.md": [
        "fedmri client init hospital --data ~/bids",
        "fedmri client join hospital-a.json --dir hospital",
        "fedmri client check plan.yaml --dir hospital",
        "fedmri client ledger --verify --dir hospital",
    ],
}


def test_the_first_steps_of_a_consortium_run_as_the_tutorials_have_them(
    here: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both parties' folders, the enrolment between them, and the plan that one page shows."""
    for page, wanted in FIRST_STEPS.items():
        shown = [shlex.split(line) for line in commands(TUTORIALS / page)]
        assert all(shlex.split(line) in shown for line in wanted)
    monkeypatch.setenv("HOME", str(tmp_path))
    generate(tmp_path / "bids", SyntheticConfig(n_sites=1, n_subjects=12, spacing_mm=8), 0)
    (_, plan), *_ = blocks(TUTORIALS / "coordinator.md", "yaml")
    (tmp_path / "plan.yaml").write_text(plan)

    def run(page: str, number: int) -> str:
        words = shlex.split(FIRST_STEPS[page][number].replace("~", str(tmp_path)))
        done = here(*words[1:], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("coordinator.md", 0)
    run("hospital.md", 0)
    shutil.copy(tmp_path / "hospital/keys/site.pub", tmp_path)
    run("coordinator.md", 1)
    shutil.copy(tmp_path / "coordinator/enrolments/hospital-a.json", tmp_path)
    for number in (1, 2, 3):
        run("hospital.md", number)


TO_AN_APPROVED_PLAN = {
    "coordinator.md": ("server init", "server start", "server enroll", "server run plan.yaml"),
    "hospital.md": (
        *("client init", "client check", "client join", "client doctor"),
        *("client start", "client plans", "client approve"),
    ),
}
"""Commands from an empty machine to a first approved plan, in the order of each page."""


@pytest.mark.parametrize("page", TO_AN_APPROVED_PLAN)
def test_a_tutorial_counts_the_commands_to_a_first_approved_plan(page: str) -> None:
    """A command that is added to the way is counted on the page."""
    own, n_all = TO_AN_APPROVED_PLAN[page], sum(map(len, TO_AN_APPROVED_PLAN.values()))
    shown = [line.removeprefix("fedmri ") for line in commands(TUTORIALS / page)]
    assert [way for line in shown for way in own if line.startswith(way)] == list(own)
    said = f"{len(own)} of the {n_all} commands from an empty machine to a first approved plan"
    assert said in " ".join((TUTORIALS / page).read_text(encoding="utf-8").split())
