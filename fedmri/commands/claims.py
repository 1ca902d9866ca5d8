"""The command that checks the claims of a paper."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fedmri.commands.apps import AsJson

IMPOSSIBLE = 3
"""Exit status where a claim contradicts arithmetic; as of data that cannot be used."""


def lint_claims(
    paper: Annotated[Path, typer.Argument(help="YAML file with the claims and methods.")],
    as_json: AsJson = False,
) -> None:
    """Check the numbers of a paper by arithmetic, and its methods for twenty mistakes.

    Finds shares that so few patients cannot give, and F1 that precision and recall do not give.
    Finds accuracy outside sensitivity and specificity, R2 above the square of r, and more. The exit
    status is 3 if a claim is impossible. Passing is no proof of a claim.
    """
    from fedmri.api.claims import lint_claims as checked

    found = checked(paper)
    if as_json:
        print(json.dumps([asdict(one) for one in found.findings], indent=1, ensure_ascii=False))
    else:
        for one in found.findings:
            print(f"{one.severity:<10}  {one.claim or 'methods'}: {one.text} [{one.rule}]")
        n_impossible = sum(one.severity == "impossible" for one in found.findings)
        print(f"{found.n_claims} claims checked, {n_impossible} findings are impossible.")
    if not found.is_possible:
        raise typer.Exit(IMPOSSIBLE)
