"""Bad inputs among folders of pictures and DICOM series."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from scipy import ndimage

from tests.data.corpus_case import BAD, Case, Spoil, void
from tests.data.worlds import add_series, image_rows, picture, save_picture, write_table


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


def undeclared_class(root: Path) -> None:
    """Rename a class of site B."""
    (root / "B/one").rename(root / "B/three")
    write_table(root / "B", image_rows(["three/g2.png", "two/g3.png", "three/xbad.png"]))


PICTURES = [
    Case("empty picture", "images", raw_picture(b""), "D07"),
    Case("text named PNG", "images", raw_picture(b"not a picture"), "D07"),
    Case("PNG without pixels", "images", raw_picture(png(40, 40)), "D07"),
    Case("JPEG cut off", "images", jpeg_cut, "D07"),
    Case("GIF named PNG", "images", in_format("GIF"), "D73"),
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
        "number of a patient at two sites",
        "images",
        image_table(lambda listed: listed[-1].update(patient="p-g0")),
        "D62",
        "warned",
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
        undeclared_class,
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


PICTURE_CASES = [*PICTURES, *SERIES]
