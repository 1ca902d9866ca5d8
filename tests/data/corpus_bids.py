"""Bad inputs among the volumes, masks and tables of a BIDS data set."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.data.corpus_case import BAD, GOOD, Case, Spoil, void
from tests.data.worlds import (
    AFFINE,
    bids_rows,
    mask,
    mask_path,
    save,
    scan_path,
    volume,
    write_table,
)


def content(data: bytes) -> Spoil:
    """Return a spoiler that puts bytes where the image should be."""
    return lambda root: void(scan_path(root, BAD).write_bytes(data))


def voxels(array: np.ndarray) -> Spoil:
    """Return a spoiler that stores an array as the image."""
    return lambda root: save(scan_path(root, BAD), array)


def placed(affine: np.ndarray) -> Spoil:
    """Return a spoiler that stores the image under another affine, and its mask with it."""

    def spoil(root: Path) -> None:
        for path, array in ((scan_path(root, BAD), volume(4)), (mask_path(root, BAD), mask(4))):
            image = nib.Nifti1Image(array, AFFINE)
            image.header.set_sform(affine, code=1)
            image.header.set_qform(None, code=0)
            raw = bytearray(image.to_bytes())
            raw[280:328] = affine[:3].astype("<f4").tobytes()  # nibabel would set it right
            raw[80:92] = np.linalg.norm(affine[:3, :3], axis=0).astype("<f4").tobytes()
            path.write_bytes(gzip.compress(bytes(raw)))

    return spoil


def masked(array: np.ndarray, affine: np.ndarray = AFFINE) -> Spoil:
    """Return a spoiler that stores an array as the mask."""
    return lambda root: save(mask_path(root, BAD), array, affine)


def header(edit: Callable[[bytearray], None]) -> Spoil:
    """Return a spoiler that edits the bytes of the header."""

    def spoil(root: Path) -> None:
        path = scan_path(root, BAD)
        raw = bytearray(gzip.decompress(path.read_bytes()))
        edit(raw)
        path.write_bytes(gzip.compress(bytes(raw)))

    return spoil


def put(offset: int, layout: str, *numbers: float) -> Spoil:
    """Return a spoiler that writes numbers into the header."""
    return header(lambda raw: struct.pack_into(layout, raw, offset, *numbers))


def file_bytes(change: Callable[[bytes], bytes]) -> Spoil:
    """Return a spoiler that changes the file as it lies on disk."""
    return lambda root: void(
        scan_path(root, BAD).write_bytes(change(scan_path(root, BAD).read_bytes()))
    )


def table(change: Callable[[str], bytes]) -> Spoil:
    """Return a spoiler that changes the bytes of the subject table."""

    def spoil(root: Path) -> None:
        path = root / "participants.tsv"
        path.write_bytes(change(path.read_text(encoding="utf-8")))

    return spoil


def instead(make: Callable[[Path], object]) -> Spoil:
    """Return a spoiler that removes the image and makes something else of that name."""

    def spoil(root: Path) -> None:
        path = scan_path(root, BAD)
        path.unlink()
        make(path)

    return spoil


def renamed(name: bytes) -> Spoil:
    """Return a spoiler that gives the subject's folder another name."""
    return lambda root: void((root / "sub-xbad").rename(root / os.fsdecode(name)))


def plain_truncated(root: Path) -> None:
    """Store the image without compression and cut it."""
    path = scan_path(root, BAD)
    raw = gzip.decompress(path.read_bytes())
    path.unlink()
    path.with_suffix("").write_bytes(raw[:-100])


def mirrored(root: Path) -> None:
    """Let sform and qform tell left from right in opposite ways."""
    image = nib.Nifti1Image(volume(4), AFFINE)
    image.set_sform(np.diag([-2.0, 2, 2, 1]), code=1)
    image.set_qform(AFFINE, code=1, update_affine=False)
    nib.save(image, scan_path(root, BAD))


def rgb(root: Path) -> None:
    """Store three colours a voxel."""
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    save(scan_path(root, BAD), np.zeros((8, 8, 8), dtype=kind))


def mask_of_another(root: Path) -> None:
    """Give the subject the mask of one whose scan has another size."""
    save(scan_path(root, BAD), volume(4, (16, 16, 12)))
    shutil.copy(mask_path(root, "g0"), mask_path(root, BAD))


def one_voxel(value: float) -> np.ndarray:
    """Return a volume in which one voxel has a value."""
    array = volume(4).astype(np.float32)
    array[3, 3, 3] = value
    return array


def near_copy(root: Path) -> None:
    """Store a good subject's sharp image again in 256 gray values."""
    sharp = np.random.default_rng(0).integers(0, 4000, (16, 16, 16)).astype(np.int16)
    save(scan_path(root, "g3"), sharp)
    save(scan_path(root, BAD), (sharp // 16).astype(np.uint8))


def dims(*shape: int) -> Spoil:
    """Return a spoiler that claims a shape in the header."""
    return put(40, "<8h", len(shape), *shape, *[1] * (7 - len(shape)))


def rows(change: Callable[[list[dict[str, str]]], object]) -> Spoil:
    """Return a spoiler that edits the rows of the subject table."""

    def spoil(root: Path) -> None:
        listed = bids_rows([*GOOD, BAD])
        change(listed)
        write_table(root, listed)

    return spoil


def cell(column: str, value: str) -> Spoil:
    """Return a spoiler that sets a cell of the bad subject's row."""
    return rows(lambda listed: listed[-1].update({column: value}))


def folder_loop(root: Path) -> None:
    """Replace the subject's folder by a link to itself."""
    folder = root / f"sub-{BAD}"
    shutil.rmtree(folder)
    folder.symlink_to(folder)


def table_folder(root: Path) -> None:
    """Replace the subject table by a folder."""
    (root / "participants.tsv").unlink()
    (root / "participants.tsv").mkdir()


FILES = [
    Case("truncated gzip", "bids", file_bytes(lambda raw: raw[: len(raw) // 2]), "D07"),
    Case("gzip cut in its checksum", "bids", file_bytes(lambda raw: raw[:-5]), "D07"),
    Case(
        "gzip with a flipped byte",
        "bids",
        file_bytes(lambda r: r[:900] + b"\x55\xaa" + r[902:]),
        "D07",
    ),
    Case("gzip with a wrong checksum", "bids", file_bytes(lambda r: r[:-8] + bytes(8)), "D07"),
    Case("zero length", "bids", content(b""), "D07"),
    Case("two bytes of gzip", "bids", content(b"\x1f\x8b"), "D07"),
    Case(
        "wrong magic", "bids", header(lambda raw: raw.__setitem__(slice(344, 348), b"nope")), "D07"
    ),
    Case("text named NIfTI", "bids", content(b"<html>404 Not Found</html>" * 30), "D07"),
    Case("random bytes", "bids", content(np.random.default_rng(0).bytes(4000)), "D07"),
    Case(
        "header without voxels",
        "bids",
        header(lambda raw: raw.__delitem__(slice(352, None))),
        "D07",
    ),
    Case("truncated without compression", "bids", plain_truncated, "D07"),
    Case("folder named as a file", "bids", instead(lambda path: path.mkdir()), "D07"),
    Case("named pipe", "bids", instead(os.mkfifo), "D07"),
    Case("device", "bids", instead(lambda path: path.symlink_to("/dev/zero")), "D07"),
    Case("link to itself", "bids", instead(lambda path: path.symlink_to(path)), "D07"),
    Case("broken link", "bids", instead(lambda path: path.symlink_to("gone")), "D07"),
    Case("unknown voxel type", "bids", put(70, "<h", 9999), "D07"),
]
VOXELS = [
    Case("four dimensions", "bids", voxels(volume(4, (8, 8, 8, 3))), "D08"),
    Case("two dimensions", "bids", voxels(volume(4, (64, 64))), "D14"),
    Case("one dimension", "bids", voxels(volume(4, (400,))), "D08"),
    Case("an axis of no length", "bids", dims(16, 0, 16), "D08"),
    Case("an axis of negative length", "bids", dims(16, -16, 16), "D08"),
    Case("colours", "bids", rgb, "D08"),
    Case("complex numbers", "bids", voxels(volume(4).astype(np.complex64)), "D08"),
    Case("one NaN", "bids", voxels(one_voxel(np.nan)), "D09"),
    Case("one infinity", "bids", voxels(one_voxel(np.inf)), "D09"),
    Case("all NaN", "bids", voxels(np.full((8, 8, 8), np.nan, np.float32)), "D09"),
    Case("all zero", "bids", voxels(np.zeros((16, 16, 16), np.int16)), "D10"),
    Case("constant", "bids", voxels(np.full((16, 16, 16), 7, np.int16)), "D10"),
    Case("one voxel above zero", "bids", voxels(np.eye(1, 4096).reshape(16, 16, 16)), "D10"),
    Case("header of terabytes", "bids", dims(30000, 30000, 30000), "D11"),
    Case("header of more than gzip can hold", "bids", dims(700, 700, 700), "D11"),
    Case("gzip that swells", "bids", header(lambda raw: raw.extend(bytes(3 * 2**20))), "D11"),
    Case("voxels beyond the end", "bids", put(108, "<f", 1e18), "D11"),
    Case("voxels before the start", "bids", put(108, "<f", -352), "D11"),
    Case("voxels nowhere", "bids", put(108, "<f", float("nan")), "D11"),
]
GEOMETRY = [
    Case("affine of two directions", "bids", placed(np.diag([2.0, 2, 0, 1])), "D12"),
    Case("affine with two equal axes", "bids", placed(AFFINE[:, [0, 0, 2, 3]]), "D12"),
    Case("affine with NaN", "bids", placed(AFFINE * np.nan), "D12"),
    Case("voxels of kilometres", "bids", placed(np.diag([1e6, 1e6, 1e6, 1])), "D12"),
    Case("left and right contradicted", "bids", mirrored, "D12"),
    Case("swapped affine", "bids", placed(AFFINE[:, [1, 0, 2, 3]]), "D13", "warned"),
    Case("ten times the spacing", "bids", placed(np.diag([20.0, 20, 20, 1])), "D13", "warned"),
    Case("mask of another shape", "bids", masked(mask(4)[:, :, :9]), "D14"),
    Case("mask elsewhere", "bids", masked(mask(4), AFFINE + np.eye(4, k=3) * 9), "D14"),
    Case(
        "mask with its axes in another order",
        "bids",
        masked(mask(4), AFFINE[:, [1, 0, 2, 3]]),
        "D14",
        "warned",
    ),
    Case("mask of another subject", "bids", mask_of_another, "D14"),
    Case("mask of two values", "bids", masked(mask(4) + mask(5)), "D15"),
    Case("mask below zero", "bids", masked(-mask(4).astype(np.int16)), "D15"),
    Case("mask of shares", "bids", masked(mask(4) * np.float32(0.5) + mask(5)), "D15"),
    Case("mask with NaN", "bids", masked(np.where(mask(4), np.float32(np.nan), 0)), "D09"),
    Case("mask cut off", "bids", lambda r: os.truncate(mask_path(r, BAD), 60), "D07"),
    Case("no mask", "bids", lambda r: mask_path(r, BAD).unlink(), "D16"),
]
SUBJECTS = [
    Case(
        "copy of a file",
        "bids",
        lambda r: void(shutil.copy(scan_path(r, "g3"), scan_path(r, BAD))),
        "D19",
    ),
    Case("nearly a copy", "bids", near_copy, "D20"),
    Case("empty subject folder", "bids", lambda r: shutil.rmtree(r / "sub-xbad" / "anat"), "D24"),
    Case(
        "only another modality",
        "bids",
        instead(lambda p: save(p.with_name("sub-xbad_T2w.nii"), volume(4))),
        "D24",
    ),
    Case(
        "image of another subject",
        "bids",
        instead(lambda p: save(p.with_name("sub-g9_T1w.nii"), volume(4))),
        "D24",
    ),
    Case("accent in a label", "bids", renamed("sub-xbäd".encode()), "D30"),
    Case("line break in a name", "bids", renamed(b"sub-xb\nad"), "D30", "warned"),
    Case("name that is no text", "bids", renamed(b"sub-xb\xffad"), "D30", "warned"),
    Case("name that turns round", "bids", renamed("sub-\u202exbad".encode()), "D30", "warned"),
    Case(
        "folder that is a loop",
        "bids",
        folder_loop,
        "D30",
    ),
    Case("folder without a row", "bids", rows(lambda listed: listed.pop()), "D28"),
    Case("row without a folder", "bids", lambda r: shutil.rmtree(r / "sub-xbad"), "D28", "warned"),
    Case(
        "rows that contradict",
        "bids",
        rows(lambda listed: listed.append({**listed[-1], "age": "7"})),
        "D18",
    ),
    Case(
        "rows that repeat", "bids", rows(lambda listed: listed.append(listed[-1])), "D18", "warned"
    ),
    Case("row without a site", "bids", cell("site", "n/a"), "D06"),
    Case("row with a cell too many", "bids", cell("sex", "F\tX"), "D05"),
]
TABLES = [
    Case(
        "Latin-1 table",
        "bids",
        table(lambda t: t.replace("\tF", "\tä").encode("latin-1")),
        "D05",
        "warned",
    ),
    Case("binary table", "bids", table(lambda t: b"\x00\x01" + t.encode()), "D05", "refused"),
    Case("compressed table", "bids", table(lambda t: gzip.compress(t.encode())), "D05", "refused"),
    Case("empty table", "bids", table(lambda t: b"\n\n"), "D05", "refused"),
    Case(
        "huge table", "bids", lambda r: os.truncate(r / "participants.tsv", 2**27), "D05", "refused"
    ),
    Case(
        "commas for tabs", "bids", table(lambda t: t.replace("\t", ",").encode()), "D05", "refused"
    ),
    Case(
        "no column participant_id",
        "bids",
        table(lambda t: t.replace("participant_id", "id").encode()),
        "D05",
        "refused",
    ),
    Case(
        "a column twice",
        "bids",
        table(lambda t: t.replace("age", "sex").encode()),
        "D05",
        "refused",
    ),
    Case(
        "table that is a folder",
        "bids",
        table_folder,
        "D05",
        "refused",
    ),
    Case(
        "no site column",
        "bids",
        table(lambda t: t.replace("site", "place").encode()),
        "D06",
        "warned",
    ),
]

BIDS_CASES = [*FILES, *VOXELS, *GEOMETRY, *SUBJECTS, *TABLES]
