"""The report is one page that stands alone, and a real browser opens it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedmri.errors import UsageError
from fedmri.reports.pages import pictures
from fedmri.reports.pages.page import write_report
from fedmri.reports.pages.templates import duration
from fedmri.reports.text.tables import result_rows
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task

WriteRun = Callable[..., Path]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECTIONS = {
    "result": "Result",
    "worth": "Worth joining",
    "curves": "Learning curves by site",
    "matrix": "Matrix of sites",
    "sites": "Scores by site",
    "images": "Example images",
    "excluded": "Excluded data",
    "failed": "Sites that failed in a round",
    "cost": "Cost",
    "reproduce": "Reproduce",
    "methods": "Methods and limits",
}


class Outline(HTMLParser):
    """Tags with their attributes, and the text outside of style and script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._hidden = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))
        self._hidden += tag in {"style", "script"}

    def handle_endtag(self, tag: str) -> None:
        """Leave a style or script."""
        self._hidden -= tag in {"style", "script"}

    def handle_data(self, data: str) -> None:
        """Keep what a reader sees."""
        if not self._hidden:
            self.text += data


@pytest.fixture(scope="module")
def page(full_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a copy of the full run."""
    run = tmp_path_factory.mktemp("page") / full_run.name
    shutil.copytree(full_run, run)
    task = Segmentation("lesion", ("tumour",))
    return write_report(run, task)[0]


def flat(dice: float = 0.5) -> Callable[..., dict[str, Any]]:
    """Return models that give every patient the same Dice."""
    return lambda arm, seed, site, i: {"scores": {"dice": dice}}


def test_every_section_is_there_with_its_content(page: Path) -> None:
    """Scores, images, exclusions, failures, cost and the command are on the page."""
    outline = Outline(page.read_text())
    ids = [attributes["id"] for tag, attributes in outline.tags if tag == "section"]
    assert ids == list(SECTIONS)
    for wanted in (
        *SECTIONS.values(),
        "Federated training reached a Dice of",
        "used 43 of 45",
        "D10",
        "an image is constant or empty",
        "sub-DU07",
        "an update holds a value that is not finite",
        "EZ (external)",
        "fedmri simulate --data lgg-bids --sites 3 --external EZ model=unet seeds=3",
        "Research use only",
        "metrics.jsonl is torn",
        "lr: 0.001",
        "349.2",  # MB of 45 rounds of 7.76 MB
        "5085",  # steps of 45 rounds of 113: what a comparison is fair by
    ):
        assert wanted in outline.text, wanted
    assert (
        sum(tag == "img" for tag, _ in outline.tags) == 16
    )  # two of 4 federated, 3 local, 1 pooled


def test_the_page_needs_no_network_and_no_script(page: Path) -> None:
    """Every address on the page is data in the page or a place in it; it is below 3 MB."""
    text = page.read_text()
    outline = Outline(text)
    names = ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
    found = [
        attributes[name] for _, attributes in outline.tags for name in names if name in attributes
    ]
    assert len(found) > 10
    assert all(address and address.startswith(("data:", "#")) for address in found)
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)\)", text))
    assert not {"script", "iframe", "object", "embed"} & {tag for tag, _ in outline.tags}
    assert "@import" not in text
    assert page.stat().st_size < 3_000_000


def test_the_page_can_be_read_without_eyes_and_links_lead_somewhere(page: Path) -> None:
    """Images and drawings have texts, tables have heads, identifiers are unique."""
    outline = Outline(page.read_text())
    images = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert images
    assert all(attributes.get("alt") for attributes in images)
    drawings = [attributes for tag, attributes in outline.tags if tag == "svg"]
    assert drawings
    assert all("aria-label" in each or "aria-hidden" in each for each in drawings)
    assert all("scope" in attributes for tag, attributes in outline.tags if tag == "th")
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes.get("href") or "" for tag, attributes in outline.tags if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_the_same_run_gives_the_same_bytes(page: Path, segmentation: Task) -> None:
    """No date of drawing, no random identifier: a page can be compared by its hash."""
    before = page.read_bytes()
    assert write_report(page.parent, segmentation)[0].read_bytes() == before


@pytest.mark.parametrize("name", ["<script>alert(1)", '"><img src=x onerror=alert(1)>', "$x^{$"])
def test_a_hostile_name_is_only_text(write_run: WriteRun, segmentation: Task, name: str) -> None:
    """Names of sites, subjects and reasons come from data, and data are not trusted."""
    run = write_run({name: 6, "B": 6}, flat(), arms=["federated", f"local:{name}"])
    record = {"arm": "federated", "seed": 0, "site": name, "status": "ok", "loss": 0.5}
    lines = [json_of({"kind": "round", "round": i, **record}) for i in (1, 2)]
    lines += [json_of({"kind": "round", "round": 3, **record, "status": name})]
    (run / "metrics.jsonl").write_text("".join(lines))
    head = (run / "manifest.tsv").read_text()
    row = "\t".join([name, f"sub-{name}", name, "D10", "yes", name])
    (run / "manifest.tsv").write_text(head + row + "\n")
    (run / "config.yaml").write_text(f"name: {name}\n")
    write_picture(run, name, caption=np.array(name))
    outline = Outline(write_report(run, segmentation)[0].read_text())
    assert f"sub-{name}" in outline.text
    assert "script" not in {tag for tag, _ in outline.tags}
    handlers = [a for _, attributes in outline.tags for a in attributes if a.startswith("on")]
    assert handlers == []
    addresses = [attributes.get("src") or "" for tag, attributes in outline.tags if tag == "img"]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)


def json_of(record: dict[str, Any]) -> str:
    """Return the line of a record."""
    return json.dumps(record) + "\n"


def write_picture(run: Path, site: str, **arrays: Any) -> Path:
    """Write one picture of a site under the federated model."""
    folder = run / "pictures" / "federated" / "seed-0"
    folder.mkdir(parents=True)
    named = {f"{name}_0": array for name, array in arrays.items()}
    image = {"image_0": np.random.default_rng(0).normal(size=(20, 24))}
    path = folder / f"{site}.npz"
    np.savez(path, allow_pickle=False, **(image | named))
    return path


def test_a_run_with_next_to_nothing_has_a_page(write_run: WriteRun, segmentation: Task) -> None:
    """One arm, one patient, no record, no picture and nothing excluded: said, not crashed on."""
    outline = Outline(write_report(write_run({"A": 1}, flat()), segmentation)[0].read_text())
    for wanted in (
        "no interval",
        "The run recorded no rounds",
        "The run wrote no pictures",
        "no scan was left out",
        "Every site answered in every round",
    ):
        assert wanted in outline.text


def test_images_of_a_classified_patient_carry_a_caption_and_no_outline(
    write_run: WriteRun, segmentation: Task
) -> None:
    """Without masks there is no key to outlines; the caption says label and probability."""
    run = write_run({"A": 6}, flat())
    write_picture(run, "A", caption=np.array("tumour, predicted healthy (0.61)"))
    outline = Outline(write_report(run, segmentation)[0].read_text())
    assert "tumour, predicted healthy (0.61)" in outline.text
    assert "swatch" not in {str(a.get("class", "")).split(" ")[0] for _, a in outline.tags}


@pytest.mark.parametrize(
    "arrays",
    [{"image": np.zeros((4, 4, 4))}, {"truth": np.zeros((3, 3), np.uint8)}, {}],
    ids=["volume", "other shape", "no archive"],
)
def test_a_broken_picture_file_is_named(
    write_run: WriteRun, segmentation: Task, arrays: dict[str, Any]
) -> None:
    """A picture that cannot be drawn is named with its file, not drawn wrong."""
    run = write_run({"A": 6}, flat())
    path = write_picture(run, "A", **arrays)
    if not arrays:
        path.write_bytes(b"junk")
    with pytest.raises(UsageError, match=r"A\.npz.*\[U11\]"):
        write_report(run, segmentation)


def test_a_patient_stands_side_by_side_under_all_models(full_run: Path) -> None:
    """Site by site: what the federated model makes of a patient, then the site's own."""
    found = [(p.number, p.site, p.arm) for p in pictures.load_pictures(full_run)]
    assert found[:3] == [(0, "CS", "federated"), (0, "CS", "local:CS"), (0, "DU", "federated")]
    assert found[3:5] == [(0, "DU", "local:DU"), (0, "DU", "pooled")]
    assert found[8] == (1, "CS", "federated")  # 4 sites under federated, 3 local, 1 pooled


def test_a_grey_image_stays_grey(full_run: Path) -> None:
    """No colour but an outline's: a tint would read as a prediction."""
    (picture, *_) = pictures.load_pictures(full_run)
    ((shown,),), _ = pictures.shown([replace(picture, truth=None, predicted=None)])
    png = base64.b64decode(shown.address.partition(",")[2])
    with Image.open(io.BytesIO(png)) as image:
        red, green, blue = (np.asarray(band) for band in image.convert("RGB").split())
    assert (red == green).all()
    assert (green == blue).all()
    assert len(np.unique(red)) > 30


def test_pictures_beyond_the_budget_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every site's first picture comes before any site's second, and the rest is said."""
    image = np.zeros((8, 8))
    all_pictures = [
        pictures.Picture("federated", site, i, "Dice 0.00", image, None, None)
        for i in range(2)
        for site in ("A", "B")
    ]
    groups, n_left = pictures.shown(all_pictures)
    assert (len(groups), n_left) == (4, 0)
    room = sum(len(one.address) for (one,) in groups[:2])
    monkeypatch.setattr(pictures, "MAX_BYTES", room)
    groups, n_left = pictures.shown(all_pictures)
    assert [one.site for (one,) in groups] == ["A", "B"]
    assert n_left == 2


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (65, "1 min 5 s"), (7260, "2 h 1 min")]
)
def test_a_duration_is_told_in_words(seconds: float, text: str) -> None:
    """Seconds below a minute, then minutes, then hours."""
    assert duration(seconds) == text


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium")


def chromium(profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a real browser without a window and without a network of its own."""
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        *quiet, f"--user-data-dir={profile}", "--enable-logging=stderr", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@needs_chromium
def test_a_browser_opens_the_page_without_complaint(page: Path, tmp_path: Path) -> None:
    """All sections arrive in its document, and its console stays empty."""
    done = chromium(tmp_path, "--dump-dom", page.as_uri())
    outline = Outline(done.stdout)
    ids = [attributes.get("id") for tag, attributes in outline.tags if tag == "section"]
    assert ids == list(SECTIONS)
    assert "CONSOLE" not in done.stderr


def widths(page: Path, selector: str, width: int, folder: Path) -> tuple[int, int]:
    """Return the pixels that an element takes, and those that it has, in a window of a width."""
    frame = folder / "frame.html"
    # The window of a headless browser is never narrower than 500 px; a frame is.
    frame.write_text(
        f'<iframe src="{page.as_uri()}" style="width:{width}px;height:800px;border:0" onload="'
        f"const one = this.contentDocument.querySelector('{selector}');"
        "document.title = one.scrollWidth + ' of ' + one.clientWidth"
        '"></iframe>',
        encoding="utf-8",
    )
    done = chromium(
        folder / "frame", "--allow-file-access-from-files", "--dump-dom", frame.as_uri()
    )
    title = re.search(r"<title>(\d+) of (\d+)</title>", done.stdout)
    assert title is not None
    return int(title[1]), int(title[2])


@needs_chromium
def test_a_laptop_shows_the_whole_table_of_scores(
    write_run: Callable[..., Path], classification: Task, tmp_path: Path
) -> None:
    """At 1280 px the widest table, that of a classification, needs no scrolling."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        truth = i % (2 + (site == "B")) == 0
        score = 0.2 + 0.4 * truth + 0.05 * (i % (7 + len(arm)))
        scores = {"predicted": float(score > 0.5), "loss": 0.7}
        return {"truth": float(truth), "prediction": [1 - score, score], "scores": scores}

    arms = ["federated", "pooled", "local-A", "local-B", "local-C"]
    run = write_run({"A": 30, "B": 34, "C": 32}, predict, arms=arms)
    page, summary = write_report(run, classification)
    assert len(result_rows(summary)[0]) == 10
    needed, there = widths(page, "#result .scroll", 1280, tmp_path)
    assert needed <= there


@needs_chromium
def test_a_browser_draws_the_page_wide_and_narrow(page: Path, tmp_path: Path) -> None:
    """The page fills a desktop, and a phone of 360 px without scrolling sideways."""
    needed, there = widths(page, "html", 360, tmp_path)
    assert needed <= there <= 360
    image = tmp_path / "wide.png"
    chromium(tmp_path / "wide", "--window-size=1200,2000", f"--screenshot={image}", page.as_uri())
    assert is_drawn(image, (1200, 2000))


def is_drawn(path: Path, size: tuple[int, int]) -> bool:
    """Tell whether an image has a size and more on it than one colour."""
    with Image.open(path) as image:
        return image.size == size and len(image.convert("RGB").getcolors(1 << 24) or ()) > 100


@needs_chromium
def test_a_browser_prints_the_page(page: Path, tmp_path: Path) -> None:
    """The page becomes a PDF of several A4 sheets (595 by 842 points)."""
    target = tmp_path / "report.pdf"
    chromium(
        tmp_path / "profile", "--no-pdf-header-footer", f"--print-to-pdf={target}", page.as_uri()
    )
    content = target.read_bytes()
    assert content.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type /Page\b", content)) <= 20
    (width, height), *_ = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)
    assert (float(width), float(height)) == pytest.approx((595, 842), abs=1)
