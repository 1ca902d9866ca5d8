"""Templates of pages: one style, and one way to escape, for all of them."""

from __future__ import annotations

import math
import re
from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from fedmri.reports.results import site_name
from fedmri.reports.text.words import capital, metric_name, number, span, with_interval

_IN_BRACKETS = re.compile(r"\([^()]*\)")


@cache  # compiled once: a grid of studies writes many reports
def template(name: str, package: str = "fedmri.reports.pages") -> Template:
    """Return a template of a package; it can include ``style.css.jinja``, the style of all pages.

    Whatever goes in is escaped, and a name that is not given is an error.
    """
    style = PackageLoader("fedmri.reports.pages", "")
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), style]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": lambda value: number(math.nan if value is None else value),
        "span": span,
        "with_interval": with_interval,
        "metric_name": metric_name,
        "capital": capital,
        "site_name": site_name,
        "unbroken": unbroken,
        "megabytes": lambda n_bytes: f"{n_bytes / 1e6:,.1f}",
        "duration": duration,
    }
    return environment.get_template(name)


def unbroken(text: str) -> Markup:
    """Return a text whose parts in brackets stay on one line, such as an interval."""
    parts, start = [], 0
    for found in _IN_BRACKETS.finditer(text):
        parts += [escape(text[start : found.start()]), _WHOLE.format(found[0])]
        start = found.end()
    return Markup("").join([*parts, escape(text[start:])])


_WHOLE = Markup('<span class="whole">{}</span>')


def duration(seconds: float) -> str:
    """Return a length of time: ``4 min 3 s``."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{seconds:.1f} s"
