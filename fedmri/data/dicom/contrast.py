"""What contrast a DICOM series has, as its text or else its sequence parameters say.

The text of a header may name a person, so it is compared here and quoted nowhere: of it only words
that name sequences are ever shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset

JUNK = frozenset(
    {"localizer", "mosaic", "colour", "phase", "map", "reformat", "subtraction", "screenshot"}
)
"""Kinds that are never taken for a modality unless a pattern asks for them."""

CONTRADICTORY = "contradictory"
"""Kind of a series whose text and times cannot both be true."""

JUNK_WORDS = {
    "localizer": r"\b(loc|locali[sz]\w*|scout\w*|survey|3 ?plane|triplan\w*|plan ?scan|"
    r"smart ?brain|aa(head\w*|scout\w*)|calib\w*|asset|shim\w*|field ?map\w*|phoenix\w*)\b",
    "map": r"\b(fa|colfa|tensor|eadc|exp\w* adc|r?cb[fv]|mtt|ttp|tmax|t[12] ?map\w*)\b",
    "reformat": r"\b(mpr|mip|minip|reformat\w*|recon\w*|vrt)\b",
    "subtraction": r"\bsubtract\w*|\bsub$",
}
WORDS = {  # the first that is found counts
    "ADC": r"\b(adc|apparent diff\w*)\b",
    "SWI": r"\b(swi\w*|swan|suscept\w*|ven ?bold|qsm)\b",
    "angio": r"\b(tof|angio\w*|mra|mrv|venogra\w*)\b",
    "asl": r"\b(p?c?asl)\b",
    "perf": r"\b(perf\w*|dsc|dce|pwi)\b",
    "bold": r"\b(bold|fmri|rest|resting)\b",
    "dwi": r"\b(dwi|dti|diff\w*|hardi|trace\w*|b ?[1-9]\d{2,3})\b",
    "T2starw": r"\bt2 ?(\*|star)|\b(hemo\w*|medic|merge|t2 fl2d|t2w? (gre|ffe)|(ffe|gre) t2w?)\b",
    "FLAIR": r"flair|dark ?fluid|fluid ?att",
    "STIR": r"\b(stir|tirm)\b",
    "T1w": r"\bs?t1\w*|\bmp ?2? ?rage|\bmpr\b|\b(ir ?)?f?spgr\b|\b(bravo|tfl3d|vibe|lava|thrive)\b",
    "PDw": r"\bpd\w*|\bproton|\brho\b",
    "T2w": r"\bs?t2\w*|\bhaste\b|\bciss\b|\bfiesta\b",
}
AGENT = re.compile(
    r"\b(gd\w*|gado\w*|gad|ce|post|contrast|kontrast|km|mdc|dotarem|magnevist|prohance|t1(c|ce|gd))\b"
    r"|\+ ?(c|gd|km|k)\b|\bc \+"
)
NO_AGENT = re.compile(r"\b(pre|without|no|non|ohne|nativ\w*|unenh\w*|sans)\b")
ORDINARY = re.compile(
    r"ax\w*|tra\w*|sag\w*|cor\w*|obl\w*|[23]d|tse|fse|se|ge|gre|epi|ep2d|ir|fs|fat|sat|iso|space|cube|"
    r"ep|ns|tfe|ffe|tir|p2|p3"
)
NAMES = {
    **{name.lower(): name for name in WORDS},
    **{"t1": "T1w", "t2": "T2w", "pd": "PDw", "t2star": "T2starw", "tof": "angio", "mra": "angio"},
    **{"t2flair": "FLAIR", "t2w_flair": "FLAIR"},
}
WITH_AGENT = frozenset({"t1c", "t1ce", "t1gd", "t1post", "t1wce", "t1cw", "t1w_ce", "ce_t1w"})


@dataclass(frozen=True)
class Look:
    """What a header says of the contrast.

    Attributes:
        raw: Series description and protocol, as written.
        folder: Name of the series' own folder, or ``""``.
        marks: Image type, in capitals.
        times_ms: Repetition, echo and inversion time; 0 where they are not written.
        sequence: Scanning sequence, such as ``SE`` and ``IR``.
        b_value: Diffusion weighting in s/mm², or 0.
        is_enhanced: Whether the header names a contrast agent.
        is_gray: Whether a pixel is one value.
    """

    raw: tuple[str, str] = field(repr=False)
    folder: str
    marks: frozenset[str]
    times_ms: tuple[float, float, float]
    sequence: frozenset[str]
    b_value: float
    is_enhanced: bool
    is_gray: bool

    @property
    def texts(self) -> tuple[str, str, str]:
        """Description, protocol and folder, in plain small letters."""
        return plain(self.raw[0]), plain(self.raw[1]), plain(self.folder)

    @property
    def kind(self) -> str:
        """Return the contrast, one of ``JUNK``, or ``""`` where nothing tells."""
        return junk_of(self) or contrast_of(self)

    @property
    def has_agent(self) -> bool:
        """Whether text or header say that a contrast agent was given."""
        text = self.texts[0] or self.texts[1] or self.texts[2]
        if NO_AGENT.search(text):
            return False
        return self.is_enhanced or bool(AGENT.search(text))

    @property
    def shown(self) -> str:
        """Words that name sequences, and times in ms; no other text of the header."""
        text = self.texts[0] or self.texts[1]
        known = [word for word in text.split() if _is_known(word)]
        names = ("TR", "TE", "TI")
        times = [f"{n} {t:g}" for n, t in zip(names, self.times_ms, strict=True) if t]
        return " ".join([*known, *times]) or "nothing that names a sequence"


def look_of(data: Dataset, folder: str) -> Look:
    """Return what a header, and the name of its folder, say of the contrast."""
    agent = str(data.get("ContrastBolusAgent") or "").strip().lower()
    return Look(
        (str(data.get("SeriesDescription") or ""), str(data.get("ProtocolName") or "")),
        folder,
        _marks(data),
        (
            _number(data, "RepetitionTime"),
            _number(data, "EchoTime") or _number(data, "EffectiveEchoTime"),
            _number(data, "InversionTime") or _number(data, "InversionTimes"),
        ),
        frozenset(_texts(data.get("ScanningSequence"))),
        _number(data, "DiffusionBValue"),
        agent not in ("", "none", "no", "n/a", "0"),
        _is_gray(data),
    )


def _is_gray(data: Dataset) -> bool:
    """Whether a pixel is one value, and no number of a colour in a palette."""
    is_palette = str(data.get("PhotometricInterpretation") or "").strip() == "PALETTE COLOR"
    return int(data.get("SamplesPerPixel") or 1) == 1 and not is_palette


def _marks(data: Dataset) -> frozenset[str]:
    """Return the image type; files of many frames keep the word after their mosaic was cut up."""
    marks = frozenset(str(part).upper() for part in _texts(data.get("ImageType")))
    is_cut_up = int(data.get("NumberOfFrames") or 1) > 1
    return marks - {"MOSAIC"} if is_cut_up else marks


def plain(text: str) -> str:
    """Return a text in small letters, with one space for all that divides words."""
    return " ".join(re.sub(r"[^a-z0-9*+]+", " ", text.lower()).replace("+", " +").split())


def junk_of(look: Look) -> str:
    """Return what a series is that nobody means by a modality, or ``""``."""
    marks = look.marks
    if not look.is_gray:
        return "colour"
    if "MOSAIC" in marks:
        return "mosaic"
    if marks & {"SCREEN SAVE", "SCREENSHOT", "SCREEN CAPTURE"}:
        return "screenshot"
    if "LOCALIZER" in marks:
        return "localizer"
    if marks & {"P", "PHASE", "PHASE MAP", "PHASE_MAP", "REAL", "IMAGINARY"}:
        return "phase"
    if marks & {"FA", "EADC", "T1 MAP", "T2 MAP", "CBF", "CBV"}:
        return "map"
    if marks & {"MPR", "MIP", "MINIP", "MNIP", "PROJECTION IMAGE", "REFORMATTED", "CURVED"}:
        return "reformat"
    text = look.texts[0] or look.texts[1] or look.texts[2]
    is_mprage = bool(re.search(r"\bt1 mpr\b", text)) and "DERIVED" not in marks
    found = [kind for kind, words in JUNK_WORDS.items() if re.search(words, text)]
    return next((kind for kind in found if not (kind == "reformat" and is_mprage)), "")


def contrast_of(look: Look) -> str:
    """Return the contrast by the first text that names one, or else by the times."""
    if "ADC" in look.marks:
        return "ADC"
    by_times = _by_times(look)
    for text in look.texts:
        kinds = [kind for kind, words in WORDS.items() if re.search(words, text)]
        if not kinds:
            continue
        if "T1w" in kinds and {"FLAIR", "STIR"} & {*kinds}:  # T1 FLAIR is weighted by T1
            return "T1w"
        if {"T2w", "PDw"} <= {*kinds} and not {"T1w", "FLAIR"} & {*kinds}:
            return by_times if by_times in ("T2w", "PDw") else ""
        return CONTRADICTORY if _contradicts(kinds[0], by_times) else kinds[0]
    return by_times


def _contradicts(said: str, by_times: str) -> bool:
    """Whether text and times cannot both be true, as in series that were named by mistake."""
    long_tr = {"T2w", "FLAIR", "PDw"}
    return (said == "T1w" and by_times in long_tr) or (said in long_tr and by_times == "T1w")


def _by_times(look: Look) -> str:
    """Return the contrast that repetition, echo and inversion time make, or ``""``."""
    tr, te, ti = look.times_ms
    is_gradient = "GR" in look.sequence
    if look.b_value > 0:
        return "dwi"
    if not tr or not te or "EP" in look.sequence:
        return ""
    if ti > 1500 and te > 60 and tr >= 4000:
        return "FLAIR"
    if te < 35 and (500 <= ti <= 1400 or (tr <= 900 and not ti and (te < 15 or not is_gradient))):
        return "T1w"
    if ti or "IR" in look.sequence or is_gradient or tr < 1800:
        return ""
    return "T2w" if te >= 60 else "PDw" if te <= 45 else ""


def wanted_of(modality: str) -> tuple[str, bool]:
    """Return contrast and agent that a modality's name asks for; ``""`` for a name of one's own."""
    name = modality.lower().replace("-", "_")
    if name in WITH_AGENT or (name.startswith("ce_") and name.endswith("t1w")):
        return "T1w", True
    return NAMES.get(name, ""), False


def _is_known(word: str) -> bool:
    patterns = [*WORDS.values(), *JUNK_WORDS.values(), AGENT.pattern, NO_AGENT.pattern]
    is_word = any(match.group() == word for p in patterns if (match := re.search(p, word)))
    return (is_word and word.isascii() and len(word) < 16) or bool(ORDINARY.fullmatch(word))


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(part) for part in value]


def _number(data: Dataset, name: str) -> float:
    """Return a field as a number, or that of the first functional group that has it; 0 for none."""
    value = data.get(name)
    for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (data.get(sequence) or ())[:1] if value in (None, "") else ():
            items = (e.value[0] for e in group if e.VR == "SQ" and e.value)
            value = next((item.get(name) for item in items if name in item), None)
    try:
        return float(value if isinstance(value, str | int | float) else value[0])
    except (TypeError, ValueError, IndexError):
        return 0.0
