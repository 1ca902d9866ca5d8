"""Bad inputs, built on the fly: what is spoilt in a good data set, and the code it must give."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from scipy import ndimage

from tests.data.worlds import (
    AFFINE,
    add_series,
    bids_rows,
    image_rows,
    mask,
    mask_path,
    picture,
    save,
    save_picture,
    scan_path,
    volume,
    write_table,
)

World = Literal["bids", "images", "dicom"]
Spoil = Callable[[Path], None]
BAD = "xbad"
GOOD = ("g0", "g1", "g2", "g3")


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        name: What is wrong.
        world: Good data set that it is put into.
        spoil: Puts it there.
        code: What the preflight must say.
        outcome: Whether the bad scan is excluded, the finding is a warning about something that
            is no scan or may be used, or the whole data set is refused.
        n_good: Good scans that must survive.
    """

    name: str
    world: World
    spoil: Spoil
    code: str
    outcome: Literal["excluded", "warned", "refused"] = "excluded"
    n_good: int = 4


def content(data: bytes) -> Spoil:
    """Return a spoiler that puts bytes where the image should be."""
    return lambda root: void(scan_path(root, BAD).write_bytes(data))


def void(_: object) -> None:
    """Drop what a writer returns."""


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
    return lambda root: os.rename(os.fsencode(root / "sub-xbad"), os.fsencode(root) + b"/" + name)


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
    Case("two dimensions", "bids", voxels(volume(4, (64, 64))), "D08"),
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
    Case("mask with a swapped affine", "bids", masked(mask(4), AFFINE[:, [1, 0, 2, 3]]), "D14"),
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
        lambda r: (shutil.rmtree(r / "sub-xbad"), (r / "sub-xbad").symlink_to(r / "sub-xbad"))[1],
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
        lambda r: ((r / "participants.tsv").unlink(), (r / "participants.tsv").mkdir())[1],
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


def picture_at(name: str) -> Callable[[Path], Path]:
    """Return where a picture of site B lies."""
    return lambda root: root / "B" / name


def pixels(array: np.ndarray, name: str = "one/xbad.png") -> Spoil:
    """Return a spoiler that stores an array as the picture."""
    return lambda root: save_picture(root / "B" / name, array)


def raw_picture(data: bytes) -> Spoil:
    """Return a spoiler that puts bytes where the picture should be."""
    return lambda root: void((root / "B" / "one/xbad.png").write_bytes(data))


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> bytes:
    """Return a PNG file that claims a size and holds next to nothing."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IEND", b"")


def in_format(kind: str, pages: int = 1) -> Spoil:
    """Return a spoiler that stores the picture in another format, perhaps in several pages."""

    def spoil(root: Path) -> None:
        images = [Image.fromarray(picture(4 + page)) for page in range(pages)]
        images[0].save(root / "B/one/xbad.png", kind, save_all=pages > 1, append_images=images[1:])

    return spoil


def jpeg_cut(root: Path) -> None:
    """Store a JPEG file under the name and cut it."""
    path = root / "B/one/xbad.png"
    Image.fromarray(picture(4)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-200])


def float_nan(root: Path) -> None:
    """Store a TIFF file of numbers, one of them none."""
    array = picture(4).astype(np.float32)
    array[5, 5] = np.nan
    Image.fromarray(array).save(root / "B/one/xbad.png", "TIFF")


def image_table(change: Callable[[list[dict[str, str]]], object]) -> Spoil:
    """Return a spoiler that edits the rows of site B's subject table."""

    def spoil(root: Path) -> None:
        listed = image_rows(["one/g2.png", "two/g3.png", "one/xbad.png"])
        change(listed)
        write_table(root / "B", listed)

    return spoil


def names_file(name: str) -> Spoil:
    """Return a spoiler that makes the bad row name another file."""
    return image_table(lambda listed: listed[-1].update({"file": name}))


def copied(source: str, name: str = "one/xbad.png") -> Spoil:
    """Return a spoiler that copies a good picture over the bad one."""
    return lambda root: void(shutil.copy(root / source, root / "B" / name))


def ct_picture() -> np.ndarray:
    """Return a bright ring with an even inside."""
    rows_, columns = np.mgrid[-60:60, -60:60]
    radius = np.hypot(rows_, columns * 1.2)
    inside = 90 + 10 * ndimage.gaussian_filter(
        np.random.default_rng(0).standard_normal((120, 120)), 2
    )
    return np.where(radius < 45, inside, np.where(radius < 52, 255, 0)).astype(np.uint8)


def site_table_binary(root: Path) -> None:
    """Make the table of site B unreadable, so that none of its images has a patient."""
    (root / "B/participants.tsv").write_bytes(b"\x00\x01\x02")


def other_class(root: Path) -> None:
    """Put one image of one patient into a second class under another patient."""
    copied("B/two/g3.png")(root)


PICTURES = [
    Case("empty picture", "images", raw_picture(b""), "D07"),
    Case("text named PNG", "images", raw_picture(b"not a picture"), "D07"),
    Case("PNG without pixels", "images", raw_picture(png(40, 40)), "D07"),
    Case("JPEG cut off", "images", jpeg_cut, "D07"),
    Case("GIF named PNG", "images", in_format("GIF"), "D07"),
    Case(
        "PNG whose comment swells",
        "images",
        raw_picture(png(40, 40, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**25))))),
        "D07",
    ),
    Case("PNG of gigapixels", "images", raw_picture(png(60000, 60000)), "D11"),
    Case("several pages", "images", in_format("TIFF", pages=3), "D08"),
    Case("line of pixels", "images", pixels(np.arange(90, dtype=np.uint8)[None]), "D08"),
    Case("NaN in a TIFF", "images", float_nan, "D09"),
    Case("black picture", "images", pixels(np.zeros((40, 40), np.uint8)), "D10"),
    Case("CT among MRI", "images", pixels(ct_picture()), "D22"),
    Case("picture copied within the site", "images", copied("B/one/g2.png"), "D19"),
    Case("picture copied across sites", "images", copied("A/one/g0.png"), "D19"),
    Case("copy with another class", "images", other_class, "D21", n_good=3),
    Case(
        "patient in two sites",
        "images",
        image_table(lambda listed: listed[-1].update(patient="p-g0")),
        "D17",
    ),
    Case("file above the folder", "images", names_file("../../x.png"), "D27"),
    Case("file above the folder, in Windows", "images", names_file("..\\..\\x.png"), "D27"),
    Case("file from the root", "images", names_file("/etc/passwd"), "D27"),
    Case("file from a drive", "images", names_file("C:\\x.png"), "D27"),
    Case("row without a file name", "images", names_file("n/a"), "D27"),
    Case("picture without a row", "images", image_table(lambda listed: listed.pop()), "D28"),
    Case(
        "row without a patient",
        "images",
        image_table(lambda listed: listed[-1].update(patient="")),
        "D28",
    ),
    Case(
        "two patients for a picture",
        "images",
        image_table(lambda listed: listed.append({"file": "one/xbad.png", "patient": "q"})),
        "D18",
    ),
    Case(
        "class that is not declared",
        "images",
        lambda r: (
            void((r / "B/one").rename(r / "B/three"))
            or write_table(r / "B", image_rows(["three/g2.png", "two/g3.png", "three/xbad.png"]))
        ),
        "D16",
        n_good=3,
    ),
    Case("table of a site is binary", "images", site_table_binary, "D05", n_good=2),
    Case(
        "site without pictures",
        "images",
        lambda r: (r / "C/one").mkdir(parents=True),
        "D33",
        "warned",
    ),
    Case(
        "picture in the wrong place",
        "images",
        lambda r: save_picture(r / "B/lost.png", picture(9)),
        "D29",
        "warned",
    ),
    Case(
        "folder inside itself",
        "images",
        lambda r: (r / "B/one/again").symlink_to(r / "B"),
        "D29",
        "warned",
    ),
    Case(
        "name with a bell",
        "images",
        lambda r: save_picture(r / "B/one/\a.png", picture(9)),
        "D30",
        "warned",
    ),
]


def slices(change: Callable[[Path], object]) -> Spoil:
    """Return a spoiler that changes the bad subject's series."""
    return lambda root: void(change(root / "A" / BAD))


def field(number: int, **values: object) -> Spoil:
    """Return a spoiler that sets header fields of a slice."""

    def spoil(root: Path) -> None:
        path = root / "A" / BAD / f"{number}.dcm"
        data = pydicom.dcmread(path)
        for name, value in values.items():
            setattr(data, name, value)
        pydicom.dcmwrite(path, data)

    return spoil


def every(**values: object) -> Spoil:
    """Return a spoiler that sets header fields of all slices."""
    return lambda root: void([field(number, **values)(root) for number in range(6)])


SERIES = [
    Case("slice missing", "dicom", slices(lambda p: (p / "2.dcm").unlink()), "D32"),
    Case("slice twice", "dicom", field(2, ImagePositionPatient=[10, 20, 42]), "D32"),
    Case(
        "slices of two directions",
        "dicom",
        field(2, ImageOrientationPatient=[0, 1, 0, 1, 0, 0]),
        "D32",
    ),
    Case("slice of another size", "dicom", field(2, Rows=8), "D32"),
    Case("slices without a place", "dicom", every(ImagePositionPatient=None), "D32"),
    Case(
        "slice cut in its pixels",
        "dicom",
        slices(lambda p: os.truncate(p / "2.dcm", (p / "2.dcm").stat().st_size - 90)),
        "D07",
    ),
    Case(
        "slice cut in its header", "dicom", slices(lambda p: os.truncate(p / "2.dcm", 300)), "D07"
    ),
    Case("text named DICOM", "dicom", slices(lambda p: (p / "2.dcm").write_text("no")), "D07"),
    Case("empty slice", "dicom", slices(lambda p: (p / "2.dcm").write_bytes(b"")), "D07"),
    Case("slice of gigapixels", "dicom", every(Rows=65535, Columns=65535), "D11"),
    Case("header says CT", "dicom", every(Modality="CT"), "D22"),
    Case("black series", "dicom", every(PixelData=bytes(512)), "D10"),
    Case("series copied", "dicom", slices(lambda p: add_series(p, 3)), "D19"),
    Case("report beside the images", "dicom", lambda r: report(r / "A" / "g0"), "D29", "warned"),
]


def report(folder: Path) -> None:
    """Write a DICOM file without an image."""
    data = pydicom.dcmread(folder / "0.dcm")
    del data.PixelData, data.Rows, data.Columns
    data.Modality = "SR"
    pydicom.dcmwrite(folder / "report.dcm", data)


CASES = [*FILES, *VOXELS, *GEOMETRY, *SUBJECTS, *TABLES, *PICTURES, *SERIES]
