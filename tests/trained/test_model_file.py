"""The one file of a trained model: all of it comes back, and nothing hostile gets in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fedmri.arm import Arm
from fedmri.config import load
from fedmri.data.settings import DataConfig, PrepareConfig, SourceConfig
from fedmri.errors import UsageError
from fedmri.models.build import build_network
from fedmri.models.registry import MODELS
from fedmri.models.weights import digest, layout, weights
from fedmri.plan import Plan, ReleaseConfig
from fedmri.server.rounds.checkpoint import load_weights_file
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task
from fedmri.trained.file.card import Entries, Provenance, card_of, from_json, to_json
from fedmri.trained.file.model_file import (
    MOST_HEADER_BYTES,
    ModelFile,
    network_forms,
    read_model,
    write_model,
)
from fedmri.trained.predict import make_network
from tests.conftest import forked
from tests.made import each, few_slices, n_covariates_of, n_dims_of, n_visits_of, narrow
from tests.trained.conftest import Run, Train, images, labels

Header = dict[str, Any]


def parts(path: Path) -> tuple[Header, bytes]:
    """Return the header of a safetensors file and the bytes of its tensors."""
    content = path.read_bytes()
    n_header = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + n_header]), content[8 + n_header :]


def put(path: Path, header: Header | bytes, rest: bytes, n_header: int | None = None) -> Path:
    """Write a safetensors file with a header of choice, and a length of choice."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((n_header or len(text)).to_bytes(8, "little") + text + rest)
    return path


def with_card(path: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write a model's file again with a changed card."""
    header, rest = parts(path)
    card = json.loads(header["__metadata__"]["notes"])
    change(card)
    header["__metadata__"]["notes"] = json.dumps(card)
    return put(target, header, rest)


@pytest.fixture(scope="module")
def nyul(train: Train) -> Run:
    """Return a segmentation model with landmarks."""
    return train("nyul")


def test_a_model_comes_back_as_it_was(nyul: Run, tmp_path: Path) -> None:
    """Card, weights and landmarks survive a round trip to the bit, and so do the bytes."""
    file = read_model(nyul.path)
    write_model(tmp_path / "again", file)
    again = read_model(tmp_path / "again")
    assert again.card == file.card
    assert digest(again.weights) == digest(file.weights) == file.card.sha256
    assert torch.equal(again.harmonized["nyul"]["landmarks"], file.harmonized["nyul"]["landmarks"])
    assert (tmp_path / "again").read_bytes() == nyul.path.read_bytes()


def test_the_recorded_digest_is_that_of_the_weights_alone(nyul: Run) -> None:
    """Landmarks and card do not enter the SHA-256 that the run recorded."""
    lines = (nyul.folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    [done] = [record for record in records if record["kind"] == "done"]
    weights, notes = load_weights_file(nyul.path)
    assert digest(weights) == notes["sha256"] == done["sha256"] == nyul.model.card.sha256
    assert not any("/" in name for name in weights)


def test_the_card_says_what_is_needed_and_nothing_of_the_sites(nyul: Run, hospitals: Path) -> None:
    """Target, classes, preparation, rounds and training scans; no path, secret or site's name."""
    card = nyul.model.card
    assert card.plan.target == Segmentation("mask", ("lesion",))
    assert (card.plan.data.prepare.spacing_mm, card.n_sites, card.role) == (12, 3, "federated")
    assert card.ranges is not None
    assert card.ranges.n_scans > 3
    text = nyul.path.read_bytes()
    assert not any(secret in text for secret in (str(hospitals).encode(), b"site01"))
    assert card.withheld == ("data.source.path",)


def test_sites_are_named_where_the_plan_says_so() -> None:
    """A new setting, off by default, lets the file say who trained."""
    plan = load(["experiment=smoke"]).plan
    origin = Provenance(plan, Arm("local", site="b"), ("b", "a"), 2, "0")
    entries = Entries((), (), (), ())
    card = card_of(origin, entries, {})
    assert (card.sites, card.n_sites, card.role) == ((), 2, "local")
    named = replace(plan, release=ReleaseConfig(is_naming_sites=True))
    assert card_of(replace(origin, plan=named), entries, {}).sites == ("a", "b")


def too_long(path: Path, target: Path) -> Path:
    """A header that claims more than the file holds."""
    header, rest = parts(path)
    return put(target, header, rest, n_header=MOST_HEADER_BYTES - 1)


def endless(path: Path, target: Path) -> Path:
    """A length of eight times 255."""
    header, rest = parts(path)
    return put(target, header, rest, n_header=2**64 - 1)


def nested(path: Path, target: Path) -> Path:
    """JSON that is nested too deep to be read."""
    return put(target, b"[" * 200_000, parts(path)[1])


def truncated(path: Path, target: Path) -> Path:
    """The last byte is missing."""
    target.write_bytes(path.read_bytes()[:-1])
    return target


def edited(change: Callable[[Header, str], object]) -> Callable[[Path, Path], Path]:
    """Return what writes a file with a changed header; the change is given a tensor's name."""

    def write(path: Path, target: Path) -> Path:
        header, rest = parts(path)
        name = sorted(key for key in header if not key.startswith(("__", "parameters/")))[0]
        change(header, name)
        return put(target, header, rest)

    return write


def carded(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], Path]:
    """Return what writes a file with a changed card."""
    return lambda path, target: with_card(path, target, change)


def infinite(path: Path, target: Path) -> Path:
    """One weight is not finite, and the card says the digest of that."""
    file = read_model(path)
    weights = {name: value.clone() for name, value in file.weights.items()}
    next(iter(weights.values())).view(-1)[0] = torch.inf
    card = replace(file.card, sha256=digest(weights))
    write_model(target, replace(file, weights=weights, card=card))
    return target


def flipped(path: Path, target: Path) -> Path:
    """One bit of a weight differs."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    target.write_bytes(content)
    return target


def without_landmarks(path: Path, target: Path) -> Path:
    """The plan harmonizes images, and the file does not say how."""
    write_model(target, replace(read_model(path), harmonized={}))
    return target


def other_landmarks(path: Path, target: Path) -> Path:
    """Landmarks of another number of modalities."""
    file = read_model(path)
    more = file.harmonized["nyul"]["landmarks"].repeat(2, 1)
    write_model(target, replace(file, harmonized={"nyul": {"landmarks": more}}))
    return target


HOSTILE: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "length beyond the file": (too_long, "a header of"),
    "length of 2**64": (endless, "a header of 18446744073709551615"),
    "nested JSON": (nested, "nested too deep"),
    "truncated": (truncated, "incomplete|InvalidOffset|fully covered|Metadata"),
    "no card": (edited(lambda h, _: h.pop("__metadata__")), "no card"),
    "two texts": (edited(lambda h, _: h["__metadata__"].update(more="x")), "no card"),
    "card of no object": (
        edited(lambda h, _: h["__metadata__"].update(notes="[1]")),
        "a card with a list",
    ),
    "missing entry": (edited(lambda h, name: h.pop(name)), "1 missing tensors"),
    "extra entry": (edited(lambda h, name: h.update(more=h[name])), "1 tensors that"),
    "other type": (edited(lambda h, name: h[name].update(dtype="F64")), "another type or shape"),
    "other shape": (edited(lambda h, name: h[name].update(shape=[2**40])), "another type or shape"),
    "harmless looking offsets": (
        edited(lambda h, name: h[name].update(data_offsets=[0, 2**50])),
        "[Oo]ffset|[Mm]etadata",
    ),
    "not finite": (infinite, "not finite"),
    "changed bit": (flipped, "another SHA-256"),
    "no landmarks": (without_landmarks, "harmonization parameters of nothing"),
    "other landmarks": (other_landmarks, "harmonization"),
    "another format": (carded(lambda c: c.update(format=99)), "format 99"),
    "unknown field": (carded(lambda c: c.update(run="rm -rf")), "a field run"),
    "unknown setting": (carded(lambda c: c["plan"]["train"].update(hook="x")), "plan.train.hook"),
    "missing field": (carded(lambda c: c.pop("plan")), "plan"),
    "NaN": (carded(lambda c: c.update(n_sites=float("nan"))), "a number NaN"),
    "lists of other entries": (
        carded(lambda c: c["entries"].update(at_sites=c["entries"]["head"])),
        "lists of entries",
    ),
    "network of terabytes": (
        carded(lambda c: c["plan"]["model"].update(width=65536)),
        "lists of entries|another type or shape",
    ),
    "images of terabytes": (
        carded(lambda c: c["plan"]["data"]["prepare"].update(shape=[2**20] * 3)),
        "a size that no scan has",
    ),
    "a million threads": (
        carded(lambda c: c["plan"]["train"].update(n_threads=10**6)),
        "more threads",
    ),
    "ranges of another model": (carded(lambda c: c["ranges"].update(percentiles=[])), "ranges of"),
    "unknown network": (
        carded(lambda c: c["plan"]["model"].update(name="os.system")),
        "setting model",
    ),
}


FIXES = {"another format": "update fedmri", "unknown network": "install what the run had"}


@pytest.mark.parametrize("name", FIXES)
def test_a_file_of_another_installation_says_what_to_install(
    nyul: Run, tmp_path: Path, name: str
) -> None:
    """To fetch it again from the run would bring the same file."""
    path = HOSTILE[name][0](nyul.path, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match=rf"To fix: {FIXES[name]}.*\[U70\]"):
        read_model(path)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_one_clear_error(
    nyul: Run, tmp_path: Path, name: str
) -> None:
    """Whatever is wrong with a header, a card or a value, the answer is U70 and says so."""
    write, found = HOSTILE[name]
    path = write(nyul.path, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match=rf"(?s)({found}).*\[U70\]"):
        read_model(path)


def test_a_card_knows_what_the_training_scans_were_like(nyul: Run, hospitals: Path) -> None:
    """Voxel sizes are those of the files, along the axes of the body."""
    ranges = nyul.model.card.ranges
    assert ranges is not None
    scans = [nib.as_closest_canonical(labels(path)) for path in images(hospitals, "FLAIR")]
    sizes = [scan.header.get_zooms() for scan in scans]
    lengths = [np.multiply(scan.shape, size) for scan, size in zip(scans, sizes, strict=True)]
    for spans, known in ((ranges.spacing_mm, sizes), (ranges.extent_mm, lengths)):
        for (low, high), values in zip(spans, zip(*known, strict=True), strict=True):
            for end in (low, high):  # each is one of the files' own
                assert min(abs(end - value) for value in values) < 1e-3
            assert low <= high
    [percentiles] = ranges.percentiles
    assert (percentiles[0], percentiles[-1]) == pytest.approx((0, 100))
    assert list(percentiles) == sorted(percentiles)


def test_no_text_of_a_card_acts_on_a_terminal(nyul: Run, tmp_path: Path) -> None:
    """A file that was sent by mail cannot clear the screen of whoever looks at it."""

    def change(card: dict[str, Any]) -> None:
        card["intended_use"] = "good\x1b[2J\u202ebad"
        card["plan"]["name"] = "a\x07b"

    path = with_card(nyul.path, tmp_path / "model.safetensors", change)
    card = read_model(path).card
    assert card.intended_use == "good\ufffd[2J\ufffdbad"
    assert card.plan.name == "a\ufffdb"


def test_a_pipe_or_a_missing_file_is_refused_at_once(tmp_path: Path) -> None:
    """Opening a pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "missing", "."):
        with pytest.raises(UsageError, match=r"\[U70\]"):
            read_model(tmp_path / name)


def test_a_file_of_an_older_version_says_what_is_missing(tmp_path: Path) -> None:
    """Weights and a digest were all that was written before."""
    notes = {"notes": json.dumps({"sha256": "0"})}
    save_file({"w": torch.zeros(2)}, tmp_path / "model.safetensors", notes)
    with pytest.raises(UsageError, match=r"plan, classes, preparation.*are missing.*\[U71\]"):
        read_model(tmp_path / "model.safetensors")


def test_a_card_that_was_not_withheld_from_must_match_its_hash(nyul: Run) -> None:
    """Nobody can change a setting of a whole plan and keep the hash that sites approved."""
    card = nyul.model.card
    whole = replace(card, withheld=(), plan_sha256=card.plan.fingerprint)
    assert from_json(to_json(whole)) == whole
    other = replace(whole, plan=replace(card.plan, seed=5))
    with pytest.raises(ValueError, match="not the one of its hash"):
        from_json(to_json(other))


def test_a_process_that_dies_while_writing_leaves_the_whole_old_file(
    nyul: Run, tmp_path: Path
) -> None:
    """The new file takes the place of the old one only when all of it is on the disk."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(nyul.path.read_bytes())
    real = os.fsync

    def die(number: int) -> None:
        real(number)
        os._exit(9)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", die)
        writer = forked(lambda: write_model(path, read_model(path)))
    assert os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) == 9
    assert path.read_bytes() == nyul.path.read_bytes()
    read_model(path)


@pytest.mark.parametrize("name", each(MODELS.own))
def test_every_network_can_be_told_from_its_plan(name: str, tmp_path: Path) -> None:
    """Names, types and shapes are known without its values, batch norm's counts among them."""
    targets: dict[str, Task] = {
        "image": Classification("kind", ("a", "b")),
        "voxel": Segmentation("mask", ("lesion",)),
    }
    target = targets[MODELS.load(name).kinds[0]]
    prepare = PrepareConfig(dimension="2d", size=(64, 64))
    n_visits = n_visits_of(name)
    if n_dims_of(name)[0] == 3 or n_visits > 1:
        prepare = PrepareConfig(size=few_slices(name, (64, 64, 64)))
    source = SourceConfig(
        covariates=("age:50/20",) if n_covariates_of(name) else (), visits=n_visits
    )
    data = DataConfig(source, prepare=prepare)
    plan = Plan(target, data=data, model=narrow(name, norm="batch"))
    forms, entries = network_forms(plan)
    network = build_network(plan.model, **plan.network)
    values = {name: value.clone() for name, value in weights(network).items()}
    assert entries == layout(network)
    origin = Provenance(plan, Arm("federated"), ("a",), 0, digest(values))
    card = card_of(origin, Entries.of(entries, plan.strategy.local_names(entries)), {})
    write_model(tmp_path / "model", ModelFile(card, values, {}))
    found = read_model(tmp_path / "model")
    assert set(forms) == set(found.weights)
    assert digest(dict(make_network(found).state_dict())) == digest(values)
