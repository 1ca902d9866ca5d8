"""The cache: whole entries or none, by content and settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmri.data.preparation.cache import (
    CachedScan,
    content_hash,
    load_entry,
    map_array,
    open_array,
    settings_fingerprint,
    site_settings,
    store_entry,
)
from fedmri.data.preparation.geometry import Geometry, Grid
from fedmri.data.preparation.transforms import PreparedArrays
from fedmri.data.settings import PrepareConfig, SourceConfig
from fedmri.errors import DataError
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task

TARGET = Segmentation("mask", ("lesion",))


def arrays(seed: int = 0) -> PreparedArrays:
    """Return a prepared scan of noise."""
    generator = np.random.default_rng(seed)
    image = generator.normal(size=(2, 5, 6, 7)).astype(np.float32)
    grid = Grid.of(image.shape[1:], np.diag([1.0, 2.0, 2.5, 1.0]))
    label = (image[0] > 1).astype(np.uint8)
    return PreparedArrays(image, label, (1.0, 2.0, 2.5), Geometry(grid, grid, grid), label)


@pytest.fixture
def entry(tmp_path: Path) -> CachedScan:
    """Return an entry of the cache."""
    return store_entry(tmp_path, "key", arrays())


def test_what_is_stored_comes_back(entry: CachedScan, tmp_path: Path) -> None:
    """The same bits, memory-mapped, with their voxel size."""
    found = load_entry(tmp_path, "key")
    assert found == entry
    assert entry.spacing_mm == (1.0, 2.0, 2.5)
    assert entry.label is not None
    for path, expected in ((entry.image, arrays().image), (entry.label, arrays().label)):
        mapped = open_array(path)
        assert isinstance(mapped, np.memmap)
        assert expected is not None
        assert mapped.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["key.npy", "key.label.npy", "key.truth.npz", "key.json"])
@pytest.mark.parametrize("n_kept", [0, 9, -1])
def test_a_truncated_file_is_no_entry(
    entry: CachedScan, tmp_path: Path, name: str, n_kept: int
) -> None:
    """What a full disk or a crash cut short is prepared again, not trained on."""
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:n_kept])
    assert load_entry(tmp_path, "key") is None
    assert store_entry(tmp_path, "key", arrays()) == entry
    assert load_entry(tmp_path, "key") == entry


def test_an_entry_of_other_shape_is_no_entry(entry: CachedScan, tmp_path: Path) -> None:
    """A whole file that belongs to something else is found out by its shape."""
    np.save(entry.image, np.zeros((2, 5, 6, 8), dtype=np.float32))
    assert load_entry(tmp_path, "key") is None


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    """Whoever empties the cache during a run reads what happened."""
    with pytest.raises(DataError, match=r"gone\.npy.*\[D44\]"):
        open_array(tmp_path / "gone.npy")
    with pytest.raises(DataError, match=r"gone\.npy.*\[D44\]"):
        map_array(tmp_path / "gone.npy", (1,), "<f4")


def test_an_array_is_mapped_as_it_was_stored(entry: CachedScan) -> None:
    """The quick way in shows the same bits, and refuses a file of another size."""
    assert entry.label is not None
    for path, dtype in ((entry.image, "<f4"), (entry.label, "|u1")):
        array = open_array(path)
        assert np.array_equal(map_array(path, array.shape, dtype), array)
        with pytest.raises(DataError, match=r"bytes where .* are due.*D44"):
            map_array(path, (2, *array.shape), dtype)
    entry.image.write_bytes(b"")
    with pytest.raises(DataError, match="D44"):
        map_array(entry.image, entry.shape, "<f4")


def test_a_folder_is_its_files(tmp_path: Path) -> None:
    """A DICOM series has the hash of its slices; one more or another order of them differs."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, contents in ((one, "ab"), (two, "ba")):
        folder.mkdir()
        for number, letter in enumerate(contents):
            (folder / f"{number}.dcm").write_text(letter)
    assert content_hash(one) != content_hash(two)
    before = content_hash(one)
    (one / "2.dcm").write_text("c")
    assert content_hash(one) != before
    assert content_hash(one / "0.dcm") == content_hash(two / "1.dcm")


@pytest.mark.parametrize(
    ("name", "value"),
    {
        "spacing_mm": 2.0,
        "shape": (8, 8, 8),
        "scaling": "none",
        "is_n4": True,
        "is_skull_stripped": True,
        "dimension": "2d",
        "slice_axis": 1,
    }.items(),
)
def test_every_setting_of_preparation_has_its_own_entries(name: str, value: object) -> None:
    """An array prepared otherwise must never be taken for the one that is asked for."""
    config = PrepareConfig(**{name: value})  # type: ignore[arg-type]  # parametrized by name
    plain = settings_fingerprint(TARGET, PrepareConfig(), ("T1w",))
    assert settings_fingerprint(TARGET, config, ("T1w",)) != plain


def test_choosing_other_slices_prepares_nothing_anew() -> None:
    """Slices are chosen from the prepared volume, so its entry serves all choices."""
    thin = PrepareConfig(dimension="2d", n_slices=10)
    thick = replace(thin, n_slices=20, skip_first=2)
    of_scans = [settings_fingerprint(TARGET, config, ("T1w",)) for config in (thin, thick)]
    of_sites = [site_settings(TARGET, config, SourceConfig()) for config in (thin, thick)]
    assert of_scans[0] == of_scans[1]
    assert of_sites[0] != of_sites[1]


def test_another_target_is_another_site_file_of_the_same_volumes() -> None:
    """Age and sex are predicted from one cache; their lists of examples differ."""
    targets: list[Task] = [Regression("age"), Classification("sex", ("F", "M"))]
    config = PrepareConfig()
    assert len({settings_fingerprint(target, config, ("T1w",)) for target in targets}) == 1
    assert len({site_settings(target, config, SourceConfig()) for target in targets}) == 2
