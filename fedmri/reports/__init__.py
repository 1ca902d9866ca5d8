"""What a run showed: scores with intervals, tables, and one page that can be handed on."""

from fedmri.reports.page import write_report
from fedmri.reports.results import Results, load_results
from fedmri.reports.summary import Summary, summarise
from fedmri.reports.tables import as_json, as_markdown
from fedmri.reports.terminal import show_summary
from fedmri.reports.words import headline

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
