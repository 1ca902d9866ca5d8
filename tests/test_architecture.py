"""Who may import whom: the arrows of docs/architecture.md, checked against the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = {"server", "clients", "simulation", "configs"}

WORDS = {"errors", "round"}
SETTINGS = {
    "data.settings",
    "privacy.settings",
    "privacy.conflicts",
    "secagg.conflicts",
    "secagg.settings",
    "training.settings",
}
PARTS = {"models.registry", "stages.registry", "strategies.registry", "tasks.registry"}
TRUST = {
    "machine.child",
    "machine.clock",
    "machine.pauses",
    "machine.logs",
    "machine.files",
    "agreement.sealed",
    "settings.file",
    "agreement.consortium",
    "agreement.signed_plan",
}
ARROWS = {
    # the library: knows MRI, learning and the round; opens no socket
    "errors": set(),
    "round": {"errors"},
    "data": WORDS | {"machine.delimited", "machine.files", "parts"},
    "arm": WORDS | {"machine.files"},
    "assembly": WORDS
    | {"models", "plan", "privacy.site_level", "training.computing.probe", "training.seeds"},
    "claims": set(),
    "outside": WORDS,
    "parts": WORDS | {"settings.keys", "outside"},
    "compatibility": WORDS | PARTS | {"claims", "parts", "plan"},
    "models": WORDS | {"claims", "parts"},
    "tasks": WORDS
    | {"claims", "parts", "evaluate.scores.masks", "reports.statistics"}
    | {"data.batches.site_data", "data.checks.target_values", "data.partial", "data.scans"}
    | {"data.target"},
    "training": WORDS
    | {"data.batches.site_data", "data.settings", "machine.files", "machine.memory", "tasks.task"}
    | {"models.embedding"},
    "strategies": WORDS | {"claims", "parts", "models.embedding", "models.weights"},
    # steps on the way of scans, embeddings and updates; what they do lies in the rooms they name
    "stages": WORDS
    | {"claims", "parts", "plan", "harmonize", "updates.codec", "updates.filters", "privacy"}
    | {"data.batches.site_data", "data.preparation.own_grids", "machine.files", "tasks.task"}
    | {"models.build", "models.embedding", "models.layers.fuzzy", "models.planning"}
    | {"models.weights", "tasks.cleaning", "evaluate.scores.area_counts"}
    | {"evaluate.reliability.by_sums"}
    | {"training.computing.device", "training.evaluation", "training.seeds", "training.settings"},
    "secagg": WORDS,
    "leakage": WORDS | {"data.batches.site_data", "evaluate.proportions"},
    "harmonize": WORDS | {"machine.delimited"},
    "privacy": WORDS | {"data.batches.site_data", "data.settings", "training.settings"},
    # pure functions on arrays; the report of a run calls them
    "evaluate": {"errors"},
    "reports": WORDS
    | {"arm", "evaluate", "machine.file_names", "machine.files", "tasks.registry", "tasks.task"}
    | {"harmonize.judging.decodability"}
    | {"data.scans"},  # how a number in a cell is read
    # a finished model: what it says of itself, what it predicts, how it is scored
    "trained": WORDS
    | {
        "arm",
        "parts",
        "plan",
        "machine.files",
        "machine.file_names",
        "data",
        "models",
        "tasks",
        "training",
    }
    | {"claims", "strategies", "stages", "settings.keys", "harmonize", "reports"}
    | {"explain.explained", "explain.options", "explain.record"},
    # what a finished model looks at: a branch of trained, which alone calls it
    "explain": WORDS
    | {"machine.files", "data", "models", "tasks.task", "training.computing.device"}
    | {"harmonize.embeddings.invariance", "reports.statistics"}
    | {"evaluate.estimate", "evaluate.hospitals.random_effects"}
    | {"trained.inputs", "trained.file.model_file", "trained.outputs", "trained.predict"},
    # a finished model elsewhere: in archives, in other programs, behind an address
    "archive": WORDS | {"data", "machine.extras", "machine.files", "trained"},
    "export": WORDS
    | {"machine.extras", "machine.files", "plan", "stages.registry", "trained"}
    | {"training.computing.device", "training.looking"},
    "serve": WORDS
    | {"data.files.pictures", "machine.local_web", "reports.pages.templates", "trained"},
    "wire": WORDS,
    "swollen": set(),
    "plan": WORDS
    | SETTINGS
    | PARTS
    | {"compatibility", "models.model", "models.image.cnn5", "strategies.averaging.fedavg"}
    | {"settings.keys", "settings.rounds", "stages.stage", "tasks.task"},
    "updates": WORDS | {"plan"},
    # what this machine gives, how settings are told, what parties agree on
    "machine": WORDS,
    "settings": WORDS,
    "agreement": WORDS
    | PARTS
    | {"parts", "plan", "secagg.secure_sum", "settings.words", "machine.files"},
    # the processes
    "server": WORDS
    | TRUST
    | {"plan", "wire", "swollen", "stages", "strategies", "harmonize", "secagg", "reports"}
    | {
        "arm",
        "machine.local_web",
        "assembly",
        "models",
        "privacy",
        "tasks.registry",
        "trained.file.card",
        "trained.file.model_file",
        "trained.file.names",
    },
    "clients": WORDS
    | TRUST
    | {"plan", "wire", "swollen", "stages", "strategies", "harmonize", "data", "models"}
    | {"assembly", "parts", "tasks", "training", "privacy", "secagg", "updates.filters", "leakage"}
    | {"machine.local_web", "machine.memory", "agreement.plan_changes", "reports.pages.templates"}
    | {"arm", "trained.file.card", "trained.file.model_file", "trained.file.names"},
    "simulation": WORDS
    | TRUST
    | {
        "arm",
        "harmonize.images.fingerprint",
        "harmonize.sums",
        "assembly",
        "parts",
        "compatibility",
        "machine.cache",
        "machine.file_names",
        "plan",
        "secagg",
        "wire",
        "data",
        "models",
        "tasks",
        "training",
        "stages.registry",
        "strategies",
        "privacy",
        "reports",
        "server",
        "clients",
        "trained.harmonized",
        "trained.file.model_file",
        "trained.file.names",
        "trained.predict",
        "trained.file.run_folder",
    },
    # the way in
    "api": WORDS
    | PARTS
    | {"arm", "config", "machine.file_names", "reports", "simulation", "trained", "tasks", "parts"}
    | {"evaluate.claims", "evaluate.comparisons.subgroups"}
    | {
        "data",
        "machine.cache",
        "machine.files",
        "harmonize",
        "plan",
        "privacy",
        "models.model",
        "models.sizes",
    }
    | {"archive", "export", "machine.extras", "stages.account", "stages.stage"}
    | {
        "assembly",
        "agreement.plan_changes",
        "settings.keys",
        "settings.words",
        "agreement.signed_plan",
    },
    "config": WORDS
    | SETTINGS
    | PARTS
    | {"parts", "plan", "settings.keys", "server.settings", "clients.settings"}
    | {"simulation.settings", "simulation.partition", "simulation.protocol", "simulation.recipe"}
    | {"tasks.kinds.regression"}
    | {"models.pretrained"},
    "cli": WORDS
    | {"api", "config", "data", "plan", "reports", "server", "clients", "simulation", "commands"}
    | {"machine.system_errors"}
    | PARTS,
    "commands": WORDS
    | TRUST
    | {
        "api",
        "assembly",
        "compatibility",
        "machine.cache",
        "machine.delimited",
        "plan",
        "config",
        "data",
        "reports",
        "server",
        "clients",
        "simulation",
        "harmonize",
        "privacy",
        "trained",
        "explain.agreement",
        "explain.options",
        "explain.record",
        "export",
        "serve",
        "agreement.plan_changes",
        "settings.words",
    }
    | {"models.registry", "models.pretrained"},
    "configs": set(),
    "__init__": WORDS
    | {"api", "claims", "models.model", "data.reader", "simulation.protocol", "tasks.task"}
    | {"trained", "strategies.averaging.fedavg"},
}
"""What each room may import: a room, or one module of a room and no other."""

ALONE = {
    "flwr": {"wire", "swollen", "server", "clients", "simulation"},
    "opacus": {"privacy"},
    "hydra": {"config"},
    "omegaconf": {"config"},
    "typer": {"cli", "commands"},
    "highdicom": {"archive"},
    "dicomweb_client": {"archive"},
    "onnx": {"export"},
    "onnxruntime": {"export"},
    "torch": {
        "api",
        "assembly",
        "explain",
        "evaluate",
        "trained",
        "export",
        "round",
        "privacy",
        "wire",
        "updates",
        "data",
        "models",
        "tasks",
        "training",
        "stages",
        "strategies",
    }
    | {"leakage", "harmonize"}
    | {"server", "clients", "simulation"},
}
"""The only rooms that may import a library."""


def room_of(file: Path) -> str:
    """Return the room of a source file: a folder, or a file that lies in ``fedmri`` itself."""
    first, *rest = file.relative_to(ROOT).with_suffix("").parts
    return first if first in TOP else rest[0]


def source() -> list[Path]:
    """Return every source file; links are not followed."""
    folders = [ROOT / "fedmri", *(ROOT / name for name in sorted(TOP))]
    return [file for folder in folders for file in sorted(folder.rglob("*.py"))]


@cache  # of a file once, and not once for each law and library
def imported(file: Path) -> tuple[str, ...]:
    """Return the dotted name of everything that a file imports, deferred or for types alone too."""
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(), file)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names]
    return tuple(found)


FILES = source()


def strays(file: Path) -> list[str]:
    """Return what a file imports of rooms that its own may not import."""
    room = room_of(file)
    names = [n.removeprefix("fedmri.") for n in imported(file) if n.startswith("fedmri.")]
    allowed = ARROWS[room] | {room}
    return [n for n in names if not any(f"{n}.".startswith(f"{a}.") for a in allowed)]


def test_a_file_imports_only_what_its_room_may() -> None:
    """An arrow that is not drawn would tie two rooms together for good."""
    assert {str(file.relative_to(ROOT)): found for file in FILES if (found := strays(file))} == {}


def test_a_file_names_what_it_imports_in_full() -> None:
    """A relative import hides which arrow it is, and may give a room a second name."""
    relative = {file: [n for n in imported(file) if n.startswith(".")] for file in FILES}
    assert {file: names for file, names in relative.items() if names} == {}


DOZEN = 12


def test_a_folder_is_seen_at_a_glance() -> None:
    """With more files than a dozen, some belong together: they get a folder."""
    counts = Counter(file.parent for file in FILES if file.name != "__init__.py")
    assert {str(folder) for folder, n in counts.items() if n > DOZEN} == set()


@pytest.mark.parametrize("library", ALONE)
def test_a_framework_stays_in_its_rooms(library: str) -> None:
    """What a framework changes in its next version is then changed in one place."""
    users = {
        room_of(file)
        for file in FILES
        if any(f"{name}.".startswith(f"{library}.") for name in imported(file))
    }
    assert users <= ALONE[library]


LIGHT = (
    "cli",
    "clients.consent.approval",
    "clients.process.enrolment",
    "clients.egress.ledger",
    "clients.process.standing",
    "server.registry.enrolment",
    "server.views.status",
)


def test_a_process_begins_without_what_few_plans_need() -> None:
    """A dozen processes load what they import, and some libraries take as long as PyTorch.

    No scan lies at a server, so a coordinator's run begins without what reads scans too.
    """
    shown = "print(*sys.modules)"
    others = "import fedmri.clients.process.worker, fedmri.simulation.study"
    code = f"import fedmri.server.deployed, sys; {shown}; {others}; {shown}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    server, every = (set(line.split()) for line in done.stdout.splitlines())
    heavy = {"torchio", "SimpleITK", "pydicom", "nibabel", "scipy.stats", "scipy.optimize"}
    assert heavy & server == set()
    assert {"monai", "matplotlib", "opacus", "sklearn"} & every == set()


def test_what_people_ask_for_often_loads_no_learning() -> None:
    """Status, ledger, registry and settings answer in a second, and not in the ten of PyTorch."""
    settings = "from fedmri.config import load; load(['experiment=smoke'])"
    lines = [*(f"import fedmri.{module}" for module in LIGHT), settings]
    code = "; ".join([*lines, "import sys", "print(*sys.modules)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "monai", "sklearn", "matplotlib"} & set(done.stdout.split()) == set()
