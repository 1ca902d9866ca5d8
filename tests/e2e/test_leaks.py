"""Patients of unusual names, whose errors are provoked at every stage: nothing of them leaves."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from fedmri.errors import RoundError
from fedmri.machine.files import write_whole
from fedmri.plan import Plan
from fedmri.server.runs import RunFolder
from fedmri.simulation import demo
from tests.e2e.conftest import plan_of
from tests.e2e.tap import Tap, disguised, found, on_disk

pytestmark = pytest.mark.slow  # four minutes of real processes

NAME, BORN, WHERE = "Käthe Zweistein", "1931-07-04", "Kanarienweg 7"
LABEL = "Zweistein19310704"
TEXTS = (NAME, "Zweistein", BORN, "19310704", WHERE, "Kanarienweg")
TIMEOUT_S = 240.0
HOOK = f'''
import sys
if "fedmri.clients.process.worker" in sys.orig_argv:
    import os
    from pathlib import Path
    from fedmri.clients.egress.border import Border
    from fedmri.clients.training.site import Site
    home = Path(sys.orig_argv[sys.orig_argv.index("fedmri.clients.process.worker") + 1])
    train, admit_error = Site.train, Border.admit_error
    def wanted():
        return (home / "hook").read_text() if (home / "hook").exists() else ""
    def hooked(self, order):
        what = wanted()
        if what in ("raise", "leak"):
            raise ValueError("{NAME}, born {BORN}, {WHERE}")
        if what == "disk":
            raise OSError(28, "No space left on device", "/data/{WHERE}/sub-{LABEL}.npy")
        if what == "kill":
            (home / "hook").unlink()
            os.kill(os.getpid(), 9)
        return train(self, order)
    def leaking(self, error, round_index):
        public = admit_error(self, error, round_index)
        return f"{{public}} {{error}}" if wanted() == "leak" else public
    Site.train, Border.admit_error = hooked, leaking
'''


def disguise(folder: Path) -> None:
    """Give all patients of a data set a name, a date, an address and a pattern in their images."""
    table = pd.read_csv(folder / "participants.tsv", sep="\t", dtype=str)
    names = {old: f"{old}{LABEL}" for old in table["participant_id"]}
    for path in sorted(folder.rglob("sub-*"), key=lambda path: -len(path.parts)):
        old = path.name.split("_")[0].split(".")[0]
        path.rename(path.with_name(path.name.replace(old, names[old], 1)))
    table["participant_id"] = table["participant_id"].map(names)
    table["name"], table["birth"], table["address"] = NAME, BORN, WHERE
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    rng = np.random.default_rng(1931)
    for path in images(folder):
        image: Any = nib.load(path)
        values = np.asarray(image.dataobj).copy()
        values[..., 3] = rng.integers(100, 900, values.shape[:-1])
        image.header["descrip"] = f"{LABEL} {BORN}".encode()
        nib.save(nib.Nifti1Image(values, image.affine, image.header), path)
        sidecar = {"PatientName": NAME, "PatientBirthDate": BORN, "PatientAddress": WHERE}
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))


def images(folder: Path, kind: str = "T1w") -> list[Path]:
    """Return the images of a data set."""
    return sorted(folder.rglob(f"*_{kind}.nii.gz"))


@dataclass(frozen=True)
class Ward:
    """A consortium of such hospitals, each behind a tap."""

    consortium: demo.Consortium
    scans: dict[str, Path]
    taps: dict[str, Tap]
    pixels: frozenset[bytes]

    def train(self, plan: Plan) -> RunFolder:
        """Run a plan to its end, good or bad."""
        run = demo.submit(self.consortium, plan)
        with suppress(RoundError):
            demo.wait(run, TIMEOUT_S, lambda run: None)
        return run

    def hook(self, site: str, what: str) -> None:
        """Let something happen at a site's next training."""
        (self.consortium.sites[site].folder / "hook").write_text(what)

    def needles(self) -> set[bytes]:
        """Return all that must not be found: texts, and pieces of images as read and prepared."""
        pieces = {
            form for text in (*TEXTS, *map(str, self.scans.values())) for form in disguised(text)
        }
        for home in self.consortium.sites.values():
            for path in sorted(home.cache.rglob("*")):
                pieces |= distinct(path.read_bytes()) if path.is_file() else set()
        return pieces | self.pixels

    def captured(self) -> list[bytes]:
        """Return each byte that crossed the wire or lies on the server's disk."""
        wire = [bytes(seen) for tap in self.taps.values() for seen in tap.seen]
        return [*wire, *on_disk(self.consortium.server.folder)]


def voxels(folder: Path) -> Iterator[bytes]:
    """Yield pieces of a data set's images as they lie in their files."""
    for path in images(folder):
        end = gzip.decompress(path.read_bytes())[-4000:]
        yield from (end[start : start + 24] for start in (0, 900))


def distinct(data: bytes, n: int = 24) -> set[bytes]:
    """Return pieces of data that are no accident: of many different bytes."""
    pieces = (data[i : i + n] for i in range(len(data) // 7, len(data) - n, len(data) // 7 + 1))
    return {piece for piece in pieces if len(set(piece)) > n // 2}


@pytest.fixture(scope="module")
def ward(hospitals: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """Run the consortium."""
    folder = tmp_path_factory.mktemp("ward")
    scans = demo.own_folders(hospitals, folder / WHERE)
    for path in scans.values():
        disguise(path)
    pixels = frozenset(piece for path in scans.values() for piece in voxels(path))
    consortium = demo.make_consortium(folder, scans)
    taps = {site: Tap(consortium.server) for site in consortium.sites}
    for site, home in consortium.sites.items():
        through = replace(home.consortium, address=f"127.0.0.1:{taps[site].port}")
        write_whole(home.consortium_file, through.to_json())
    (folder / "hooks").mkdir()
    (folder / "hooks" / "sitecustomize.py").write_text(HOOK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "hooks"), prepend=os.pathsep)
        with demo.running(consortium):
            yield Ward(consortium, scans, taps, pixels)
    for tap in taps.values():
        tap.close()


def plan(name: str, *settings: str) -> Plan:
    """Return a plan of one round that goes on with any site."""
    few = ("rounds.n_rounds=1", "rounds.quorum=0.1", "rounds.min_sites=3", "rounds.timeout_s=90")
    return plan_of(f"name={name}", *few, *settings)


def without_column(path: Path) -> None:
    """Take what is to be learned out of a table."""
    table = pd.read_csv(path / "participants.tsv", sep="\t", dtype=str)
    table.drop(columns="lesion").to_csv(path / "participants.tsv", sep="\t", index=False)


def without_values(path: Path) -> None:
    """Leave nothing but NaN of it."""
    table = pd.read_csv(path / "participants.tsv", sep="\t", dtype=str)
    table["lesion"] = "nan"
    table.to_csv(path / "participants.tsv", sep="\t", index=False)


def truncated(path: Path) -> None:
    """Cut images in half."""
    for image in images(path):
        image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])


def misfitting(path: Path) -> None:
    """Make masks of another shape."""
    for image in images(path, "mask"):
        nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), image)


def torn(path: Path) -> None:
    """Cut masks in half."""
    for image in images(path, "mask"):
        image.write_bytes(image.read_bytes()[:40])


def lost(path: Path) -> None:
    """Leave no mask."""
    for image in images(path, "mask"):
        image.unlink()


SEGMENTATION = (
    *("target.kind=segmentation", "target.name=mask", "target.classes=[lesion]"),
    *("data.source.modalities=[FLAIR]", "model=unet", "model.norm=group"),
)
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def provoked(ward: Ward) -> dict[str, dict[str, str]]:
    """Train with healthy data, then provoke errors; return each site's status by run."""
    runs = [ward.train(plan("healthy"))]
    for site, what in (("site01", "raise"), ("site02", "disk"), ("site03", "kill")):
        ward.hook(site, what)
    runs.append(ward.train(plan("hooked", "seed=1")))
    damages: list[tuple[Plan, tuple[Damage, Damage, Damage]]] = [
        (plan("masks", *SEGMENTATION), (misfitting, torn, lost)),
        (plan("tables", "seed=2"), (truncated, without_column, without_values)),
    ]
    for damaged, ways in damages:
        for path, damage in zip(ward.scans.values(), ways, strict=True):
            damage(path)
        runs.append(ward.train(damaged))
    return {run.name: statuses(run) for run in runs}


def statuses(run: RunFolder) -> dict[str, str]:
    """Return what came of each site's training in a run."""
    records = map(json.loads, (run.path / "metrics.jsonl").read_text().splitlines())
    return {one["site"]: one["status"] for one in records if one["kind"] == "round"}


def test_errors_were_provoked_at_every_stage(
    ward: Ward, provoked: dict[str, dict[str, str]]
) -> None:
    """Each had a code at the server; what they said of the patient is in the site's own log."""
    assert set(provoked["healthy"].values()) == {"ok"}
    assert provoked["hooked"] == {"site01": "R05", "site02": "R05", "site03": "ok"}
    for run in ("masks", "tables"):
        assert len(provoked[run]) == 3
        assert not {"ok", "R05"} & set(provoked[run].values())
    for site, told in (("site01", NAME), ("site02", WHERE)):
        assert told in (ward.consortium.sites[site].logs / "client.log").read_text()


def test_nothing_of_a_patient_leaves(ward: Ward, provoked: dict[str, dict[str, str]]) -> None:
    """No name, id, date, address, path or piece of an image on the wire or the server's disk."""
    captured, needles = ward.captured(), ward.needles()
    assert sum(map(len, captured)) > 1_000_000
    assert found({b"/v1/fleet/push-object", b"signed-plan", b"site01"}, captured)
    assert len(needles) > 100
    assert found(needles, captured) == set()


@pytest.mark.parametrize(
    "pack",
    [
        lambda data: data,
        zlib.compress,
        gzip.compress,
        b64encode,
        lambda data: b64encode(zlib.compress(data)),
        lambda data: data.decode().encode("utf-16-le"),
        lambda data: data.hex().encode(),
    ],
    ids=["plain", "zlib", "gzip", "base64", "zlib in base64", "utf-16", "hex"],
)
def test_the_search_finds_what_is_packed(pack: Callable[[bytes], bytes]) -> None:
    """A name that hides in the middle of other bytes is found."""
    packed = bytes(range(200)) + b"\n" + pack(f"patient {NAME}, of {WHERE}".encode()) + b"\n\xff"
    assert found(disguised(NAME), [packed])


def test_a_planted_leak_is_found(ward: Ward, provoked: dict[str, dict[str, str]]) -> None:
    """The search is shown to work: a name past the border is on the wire."""
    ward.hook("site01", "leak")
    ward.train(plan("leak", "seed=3"))
    assert found(disguised("Zweistein"), ward.captured())
