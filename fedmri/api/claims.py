"""Claims of a paper checked by arithmetic; the command ``fedmri lint-claims`` calls the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedmri.evaluate.claims.lint import lint
from fedmri.evaluate.claims.paper import paper_of, read_paper
from fedmri.evaluate.claims.stated import Finding

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ClaimsCheck:
    """What is wrong with the claims of a paper.

    Attributes:
        findings: The worst first.
        n_claims: Claims that were checked.
    """

    findings: tuple[Finding, ...]
    n_claims: int

    @property
    def is_possible(self) -> bool:
        """Whether no claim contradicts arithmetic. It is no proof that the claims are true."""
        return not any(finding.severity == "impossible" for finding in self.findings)

    def table(self) -> pd.DataFrame:
        """Return the findings; columns ``severity``, ``claim``, ``rule`` and ``text``."""
        import pandas as pd

        rows = [(one.severity, one.claim, one.rule, one.text) for one in self.findings]
        return pd.DataFrame(rows, columns=["severity", "claim", "rule", "text"])


def lint_claims(paper: str | os.PathLike[str] | Mapping[str, Any]) -> ClaimsCheck:
    """Check the claims of a paper by arithmetic, and its methods for twenty mistakes.

    Args:
        paper: A YAML file, or the same as a mapping with ``claims`` and ``methods``. Numbers of a
            mapping should be texts: ``"99.20"`` claims more than 99.2.

    Raises:
        UsageError: A file cannot be read, or says something that is not known (U81).
    """
    found = paper_of(paper) if isinstance(paper, Mapping) else read_paper(paper)
    return ClaimsCheck(lint(found), len(found.claims))
