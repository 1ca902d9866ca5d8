"""The command that shows what a finished model looks at: explain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedmri.commands.model.trained import refuse_left_out
from fedmri.errors import UsageError

if TYPE_CHECKING:
    from fedmri.explain.options import Method
    from fedmri.explain.record import Explained


def explain(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="File model.safetensors of a run.")
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="NIfTI files, pictures, BIDS data sets, DICOM series, or folders of them.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder to write to; it must be empty. It stays at the site.")
    ] = Path("explanations"),
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="gradcam, gradcam++, integrated_gradients, occlusion or attention. "
            "Once a method. Default: all.",
            show_default=False,
        ),
    ] = None,
    explained_class: Annotated[
        str,
        typer.Option("--class", help="Class to explain. Default: what is predicted for a scan."),
    ] = "",
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of lesion masks with BIDS names.", show_default=False),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another model of the same plan, for an ensemble. Once a model.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Scans that training knew, or a file reference_sums.safetensors.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Passes with dropout on, where the network has dropout.")
    ] = 30,
    device: Annotated[
        str,
        typer.Option(help="Where networks run: cpu, cuda or auto. Default: as in training."),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the aggregates as JSON, for machines.")
    ] = False,
) -> None:
    """Show what a model looks at, how sure it is, and how far scans are from what it knows.

    Maps lie on each scan's own grid and stay at the site. Aggregates over patients are in
    summary.json. Exits with 3 where a scan was left out.
    """
    from fedmri.explain.options import ExplainOptions
    from fedmri.trained.model import TrainedModel

    options = ExplainOptions(
        methods=_methods(method),
        explained_class=explained_class,
        masks=masks,
        also=tuple(also or ()),
        reference=reference,
        n_samples=samples,
        device=device,
    )
    found = TrainedModel.open(model).explain(*inputs, out=out, options=options)
    _tell(found, out, is_json=as_json)
    refuse_left_out("explanations", found.left_out, out / "explanations.tsv")


def _methods(names: list[str] | None) -> tuple[Method, ...]:
    from fedmri.explain.options import METHODS

    known: dict[str, Method] = {name: name for name in METHODS}
    if other := [name for name in names or [] if name not in known]:
        want, fix = f"one of {', '.join(METHODS)}", "name a method that there is"
        raise UsageError("U01", "--method", found=other[0], want=want, fix=fix)
    return tuple(dict.fromkeys(known[name] for name in names)) if names else METHODS


def _tell(found: Explained, out: Path, *, is_json: bool) -> None:
    summary = found.summary
    if is_json:
        print(json.dumps(summary))
        return
    for name, one in summary["methods"].items():
        inside = _shown(one["share_in_mask"])
        untrained = _shown(one["share_in_mask_untrained"])
        share = f" In the mask: {inside}; untrained: {untrained}." if inside else ""
        print(f"{name}: under random weights it {one['under_random_weights']}.{share}")
    for name, one in summary["columns"].items():
        print(f"Column {name}: it moves the score by {_shown(one['shapley'])} (Shapley).")
    distance = summary["distance"]
    if distance is not None:
        n, m = (distance[name]["n_beyond_usual"] for name in ("embedding", "look"))
        print(
            f"Farther from the reference than 95 % of it: {n} of {summary['n_scans']} scans by "
            f"their embedding, {m} by their look."
        )
    for one in found.left_out:
        print(f"Left out: {one.name}: {one.reason} [{one.code}]")
    may = "may leave" if summary["is_fit_to_leave"] else "must stay: fewer than five patients"
    print(f"{len(found.scans)} scans explained. {out / 'summary.json'} {may}; all else stays here.")


def _shown(estimate: dict[str, Any]) -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None:
        return ""
    return f"{value:.3f}" if low is None else f"{value:.3f} ({low:.3f} to {high:.3f})"
