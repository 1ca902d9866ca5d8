"""Which DICOM series of a subject is which modality; never a silent pick.

A declared pattern decides alone. Else description, protocol, folder and sequence parameters tell
the contrast of a series. Several series of one contrast are examinations or repeats of one
protocol, which are all taken, or they are different images, of which nobody knows the right one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedmri.data.dicom.contrast import JUNK, contrast_of, wanted_of
from fedmri.data.dicom.series import Slice
from fedmri.data.settings import SourceConfig

N_SHOWN = 6
UNREAD = frozenset({"mosaic", "colour"})


@dataclass(frozen=True)
class Series:
    """A volume of a subject, and where it lies.

    Attributes:
        slices: Its files.
        visit: Folders between the subject and the series' own.
        place: Folder or file that stands for it, relative to the subject's folder.
    """

    slices: tuple[Slice, ...]
    visit: tuple[str, ...]
    place: str

    @property
    def kind(self) -> str:
        """Contrast, kind of junk, or ``""``."""
        return self.slices[0].look.kind

    @property
    def study(self) -> str:
        """Examination that all its files belong to, or ``""``."""
        studies = {one.study for one in self.slices}
        return studies.pop() if len(studies) == 1 else ""

    @property
    def protocol(self) -> tuple[object, ...]:
        """What is equal where an image was taken again in the same way."""
        first = self.slices[0]
        frame = first.frames[0] if first.frames else None
        rows = np.reshape((frame and frame.orientation) or (1, 0, 0, 0, 1, 0), (2, 3))
        plane = int(np.argmax(np.abs(np.cross(*rows))))
        times = tuple(round(t) for t in first.look.times_ms)
        part = (frame.part, frame.b_value) if frame else ()
        return first.look.texts[:2], times, plane, first.look.has_agent, part

    @property
    def shown(self) -> str:
        """Place, contrast and the words of the header that name sequences."""
        look = self.slices[0].look
        agent = ", with agent" if look.has_agent else ""
        return f"{self.place} ({self.kind or 'unknown'}{agent}: {look.shown})"


@dataclass(frozen=True)
class Choice:
    """What is taken of the series of a subject's visit.

    Attributes:
        taken: Series by modality; more than one where repeats or examinations are all taken.
        question: Why a person has to decide; ``""`` where it is clear.
        code: Of the question.
        notes: What was passed over, or taken with a caution.
    """

    taken: Mapping[str, tuple[Series, ...]]
    question: str = ""
    notes: tuple[str, ...] = ()
    code: str = "D61"


def choose(series: Sequence[Series], config: SourceConfig) -> Choice:
    """Choose among the series of one visit of one subject.

    Args:
        series: All of them.
        config: Its ``modalities``, ``series`` and ``missing`` are read.
    """
    taken: dict[str, tuple[Series, ...]] = {}
    questions: list[str] = []
    notes: list[str] = []
    for modality in config.modalities:
        found, note = _fitting(modality, series, config)
        if note:
            notes.append(note)
        question = _question(modality, found, series, is_alone=len(config.modalities) == 1)
        if question and (found or config.missing == "skip" or len(config.modalities) == 1):
            questions.append(question)
        elif found:
            taken[modality] = tuple(found)
    if not taken and not questions:
        questions.append(_none_fits(" or ".join(config.modalities), series))
    used = {id(one) for group in taken.values() for one in group}
    rest = [one.shown for one in series if id(one) not in used]
    if rest and not questions:
        notes.append(f"{len(rest)} other series passed over: {_listed(rest)}")
    code = "D63" if all(one.kind in UNREAD for one in series) else "D61"
    return Choice(taken, "; ".join(questions), tuple(notes), code)


def _fitting(
    modality: str, series: Sequence[Series], config: SourceConfig
) -> tuple[list[Series], str]:
    """Return the series that may be the modality, and a caution."""
    for text in config.series:
        name, _, pattern = text.partition("=")
        if name == modality:
            return [one for one in series if _is_named(one, pattern)], ""
    kind, has_agent = wanted_of(modality)
    real = [one for one in series if one.kind not in JUNK]
    if not kind:
        return real, ""
    same = [one for one in real if one.kind == kind]
    is_split = kind == "T1w"  # elsewhere an agent matters less than the weighting
    agents = [one for one in same if one.slices[0].look.has_agent == has_agent]
    if agents or (same and is_split):
        return agents, ""
    if same:
        return same, ""
    return _second_choice(kind, real, series)


def _second_choice(
    kind: str, real: Sequence[Series], series: Sequence[Series]
) -> tuple[list[Series], str]:
    """Take what nothing tells about where it is alone, or a reformat of the contrast."""
    if real and not any(one.kind for one in real):
        return list(real), ""
    if real:
        return [], ""
    reformats = [one for one in series if one.kind == "reformat"]
    same = [one for one in reformats if contrast_of(one.slices[0].look) == kind]
    return same, f"only a reformatted series is {kind}" if same else ""


def _is_named(one: Series, pattern: str) -> bool:
    look = one.slices[0].look
    texts = (*look.raw, *look.texts, one.place)
    return any(re.search(pattern, text, re.IGNORECASE) for text in texts)


def _question(
    modality: str, found: Sequence[Series], series: Sequence[Series], *, is_alone: bool
) -> str:
    """Return what a person must decide, or ``""``."""
    if not found:
        return _none_fits(modality, series)
    groups = by_examination(found)
    for group in groups:
        if len({one.protocol for one in group}) > 1:
            return _several(modality, group)
        if len(group) > 1 and not is_alone:
            return _several(modality, group)
    return ""


def by_examination(found: Sequence[Series]) -> list[list[Series]]:
    """Divide series by examination, where each names its own; else they are one group."""
    if not all(one.study for one in found):
        return [list(found)]
    groups: dict[str, list[Series]] = defaultdict(list)
    for one in found:
        groups[one.study].append(one)
    return list(groups.values())


def _none_fits(modality: str, series: Sequence[Series]) -> str:
    return f"none of {len(series)} series is {modality}: {_listed([o.shown for o in series])}{_HOW}"


def _several(modality: str, group: Sequence[Series]) -> str:
    shown = _listed([one.shown for one in group])
    return f"{len(group)} series may be {modality}: {shown}{_HOW}"


def _listed(shown: Sequence[str]) -> str:
    more = f" and {len(shown) - N_SHOWN} more" if len(shown) > N_SHOWN else ""
    return ", ".join(shown[:N_SHOWN]) + more


_HOW = (
    ". Name one by data.source.series=[MODALITY=PATTERN], a pattern of its description, or correct "
    "data.source.modalities"
)
