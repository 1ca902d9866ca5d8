"""What the name of a column says of its part, in the words that people use for it."""

from __future__ import annotations

import re
from typing import Literal

Hint = Literal["identifier", "date", "subject", "acquisition", "code", "percentage", "measure", ""]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORDS = re.compile(r"[A-ZÀ-Þ]+(?![a-zà-ÿ])|[A-ZÀ-Þ]?[a-zà-ÿß]+|\d+")
_ID = _set("id ids idx uniqueid uid guid uuid rid ptid eid mrn subjectkey iid")
_ID_AT_END = _set(
    "subject subjects subj participant patient session ses run series accession barcode "
    "pid sid name initials case record"
)
_ID_ALONE = _set("index sub key row number no nr fid")
_ID_GLUED = re.compile(
    r"(.*(subj|subject|participant|patient|pat|person|record|case|image|img|scan|exam|study|series|"
    r"session|family|sample|loni|src|hospital|center|centre|site|scanner|acc|accession|mr|med|file))"
    r"(id|ids|uid|no|nr|num|number|key)|unnamed\d*",
)
_DATE = _set("date dates datum fecha dob birth birthdate birthday timestamp datetime")
_DATE_GLUED = re.compile(
    r"(scan|exam|visit|birth|acq|acquisition|study|test|session|series|image|img|mri|mr|start|end|"
    r"entry|enrolment|content|user|measurement)(date|time)"
)
_TIME = _set("year years yr yrs month months day days week weeks hour hours jahr jahre followup")
_CLOCK = _set("scan acq acquisition exam study series session visit start end content")
_SUBJECT = _set(
    "age alter edad eta leeftijd sex sexe sexo gender geschlecht education educ edu "
    "schooling race ethnicity handedness bmi diagnosis dx diag apoe apoe4 mmse moca cdr "
    "cdrsb adas adas11 adas13 gds updrs edss iq fsiq viq piq hads phq9 bdi"
)
_SUBJECT_ALONE = _set("height weight hand group gender sex age")
_BODY = _set("body birth kg lb lbs g cm m in")
_ACQUISITION = _set("tesla fieldstrength manufacturer vendor coil")
_ACQUISITION_ALONE = _set("tr te ti fa_deg b0 field flip")
_ACQUISITION_PAIRS = (
    ("field", "strength"),
    ("magnetic", "field"),
    ("echo", "time"),
    ("repetition", "time"),
    ("inversion", "time"),
    ("flip", "angle"),
    ("slice", "thickness"),
    ("slice", "gap"),
    ("voxel", "size"),
    ("pixel", "size"),
    ("pixel", "spacing"),
    ("pixel", "bandwidth"),
    ("software", "version"),
    ("scanner", "model"),
)
_CODE = _set(
    "visit viscode wave timepoint tp scanner machine batch site center centre hospital "
    "group arm class label cohort category type status stage grade phase flag qc qa pass "
    "passed fail failed exclude excluded include included usable ok rating smoker "
    "protocol sequence split fold set train test code hand"
)
_PERCENT = _set("percent pct percentage prozent perc")
_MEASURE = _set(
    "vol volume volumes thickness thick thk area areas curv curvature meancurv gauscurv "
    "foldind curvind surfarea grayvol numvert thickstd count counts load burden lesion "
    "lesions wmh mm mm2 mm3 ml cm3 voxel voxels nvoxels icv tiv etiv tbv lh rh left right "
    "fa md rd suvr suv mtr intensity density snr cnr gm wm csf gray grey white matter "
    "brain stem fdg pib av45 bold"
)
_ANATOMY = re.compile(
    r"(hippo|amygd|ventric|thalam|putamen|caudat|pallid|accumb|cerebell|cortex|cortic|gyr|sulc|"
    r"frontal|temporal|parietal|occipital|insula|cingul|entorhin|fusiform|precune|cuneus|lingual|"
    r"callos|hypoint|hyperint|choroid|brainstem|subcort|intracran)"
)


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name: ``ScanDate`` and ``scan_date`` are both scan and date."""
    return tuple(word.lower() for word in _WORDS.findall(name))


def hint(name: str) -> Hint:
    """Return what a name says of its column; nothing where it says nothing."""
    words = words_of(name)
    glued = "".join(words)
    tests: tuple[tuple[Hint, bool], ...] = (
        ("acquisition", _is_acquisition(words, glued)),
        ("subject", _is_of_subject(words, glued)),
        ("date", _is_date(words)),
        ("identifier", _is_identifier(words, glued)),
        ("percentage", bool(_PERCENT & set(words)) or "%" in name),
        ("measure", bool(_MEASURE & set(words)) or _ANATOMY.search(glued) is not None),
        ("code", says_code(name)),
    )
    return next((said for said, is_so in tests if is_so), "")


def says_code(name: str) -> bool:
    """Tell whether a name has a word for codes and ratings, whatever else it says."""
    return bool(_CODE & set(words_of(name)))


def _is_of_subject(words: tuple[str, ...], glued: str) -> bool:
    is_body = bool({"weight", "height"} & set(words)) and bool(_BODY & set(words))
    return bool(_SUBJECT & set(words)) or glued in _SUBJECT_ALONE or is_body


def _is_identifier(words: tuple[str, ...], glued: str) -> bool:
    return (
        bool(_ID & set(words))
        or (bool(words) and words[-1] in _ID_AT_END)
        or glued in _ID_ALONE
        or _ID_GLUED.fullmatch(glued) is not None
    )


def _is_date(words: tuple[str, ...]) -> bool:
    some = set(words)
    is_clock = "time" in some and bool(_CLOCK & some or len(some) == 1)
    is_glued = any(map(_DATE_GLUED.fullmatch, words))  # no ending alone: caudate
    return bool(_DATE & some) or bool(_TIME & some) or is_glued or is_clock


def _is_acquisition(words: tuple[str, ...], glued: str) -> bool:
    is_pair = any(a + b in glued for a, b in _ACQUISITION_PAIRS)
    return bool(_ACQUISITION & set(words)) or glued in _ACQUISITION_ALONE or is_pair
