"""What a run showed: scores with intervals, tables, and one page that can be handed on."""

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
