"""Packages that few need are extras: a feature without its package says which one in one line."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fedmri.errors import ConfigError
from fedmri.simulation.engines.ray_engine import RayEngine
from tests.reports_of_others.test_dicom_series import no_decoder

ROOT = Path(__file__).parents[1]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
NAMED = re.compile(r"fedmri\[(\w+)\]")
DECODERS = ("pylibjpeg", "libjpeg", "openjpeg")


def test_ray_is_named_where_it_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulation on Ray ends before it starts, with what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of it fails, installed or not
    with pytest.raises(ConfigError, match=r"found no ray.*pip install 'fedmri\[ray\]'.*\[C05\]"):
        RayEngine(1, "fedmri.clients.app:app", tmp_path / "log.txt")


def test_decoders_are_named_where_they_are_absent(tmp_path: Path) -> None:
    """A compression that needs one is refused, with what to install."""
    no_decoder(tmp_path / "A/1")
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({DECODERS}))\n"
        "from pathlib import Path\nfrom fedmri.data.dicom.frames import planes_of\n"
        "list(planes_of(Path(sys.argv[1]), ()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "A/1/0.dcm")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    *_, said = done.stderr.splitlines()
    assert re.search(r"High-Throughput.*pip install 'fedmri\[dicom\]'.*\[D66\]", said), said


def test_an_extra_that_is_named_exists_and_holds_something() -> None:
    """No error and no page sends a reader to an extra that installs nothing."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "fedmri").rglob("*.py")]
    files += (ROOT / "simulation").rglob("*.py")
    named = {name for file in files for name in NAMED.findall(file.read_text(encoding="utf-8"))}
    assert {"ray", "dicom", "archive", "export"} <= named <= EXTRAS.keys()
    assert all(EXTRAS.values())
