"""Whether sites can be told from embeddings, in words and as cells."""

from __future__ import annotations

from fedmri.reports.text.words import number, span, with_interval
from fedmri.reports.told_site import SiteTelling, ToldSite

HEAD = ["Model and seed", "Target taken out", "Site named, mean over sites", "By chance", "p"]
HEAD += ["Sites", "Patients"]
WARNING = (
    "This warns of a shortcut: the model may go by the scanner. "
    "Patients of sites may also differ in age or illness, and no probe tells these apart."
)
NO_PROOF = "This is no proof that the site is hidden: the patients are few and the probe is linear."


def telling_sentences(telling: SiteTelling) -> str:
    """Return what the first model's embeddings tell of the site, and what that means."""
    if not telling.found:
        return f"Whether the site can be told from embeddings was not tried: {telling.reason}."
    first, *others = telling.found
    verb = "can" if first.is_told else "could not"
    said = f"From embeddings of {first.label}, the site of a test patient {verb} be told: "
    said += f"balanced accuracy {_share(first)}, where chance gives {number(first.chance)}."
    given = next((one for one in others if one.is_given and _is_same(one, first)), None)
    if given is not None:
        said += f" With the target's linear effect taken out, it is {_share(given)}."
    return f"{said} {WARNING if first.is_told else NO_PROOF}"


def _is_same(one: ToldSite, other: ToldSite) -> bool:
    return (one.label, one.seed) == (other.label, other.seed)


def _share(one: ToldSite) -> str:
    return f"{number(one.share.value)} ({span(one.share)})"


def telling_rows(telling: SiteTelling) -> tuple[list[str], list[list[str]]]:
    """Return the head and the cells of the table of models and seeds."""
    rows = [
        [
            f"{one.label}, seed {one.seed}",
            "yes" if one.is_given else "no",
            with_interval(one.share),
            number(one.chance),
            f"{one.p_value:.2f}",
            str(one.n_sites),
            str(one.share.n_subjects),
        ]
        for one in telling.found
    ]
    return HEAD, rows
