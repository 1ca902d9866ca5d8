"""What a run showed: scores with intervals, tables, and one page that can be handed on.

A page draws figures, which takes seconds to import: what stands here is imported when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedmri.reports.pages.page import write_report
    from fedmri.reports.results import Results, load_results
    from fedmri.reports.summary import Summary, summarise
    from fedmri.reports.text.tables import as_json, as_markdown
    from fedmri.reports.text.terminal import show_summary
    from fedmri.reports.text.words import headline

__all__ = [
    "Results",
    "Summary",
    "as_json",
    "as_markdown",
    "headline",
    "load_results",
    "show_summary",
    "summarise",
    "write_report",
]

_HOMES = {
    "Results": "results",
    "Summary": "summary",
    "as_json": "text.tables",
    "as_markdown": "text.tables",
    "headline": "text.words",
    "load_results": "results",
    "show_summary": "text.terminal",
    "summarise": "summary",
    "write_report": "pages.page",
}
"""Where each name is defined."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedmri.reports' has no attribute {name!r}")
    return getattr(import_module(f"fedmri.reports.{_HOMES[name]}"), name)
