"""What probabilities are worth, drawn: calibration, errors of the surest, and net benefit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes

from fedmri.reports.pages.figures import FAINT, STYLE, Style, panel, svg
from fedmri.reports.summary import Summary


def calibration(summary: Summary, style: Mapping[str, Style]) -> Markup:
    """Draw how often the predicted class was right, by its probability."""
    with mpl.rc_context(STYLE):
        figure, axes = panel(3.3, 3.0)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        for one in summary.calibrations:
            _draw(axes, style[one.label], one.points)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("probability of the predicted class")
        axes.set_ylabel("share that was right")
        alt = "share of right answers by the probability of the predicted class, for each model"
        return svg(figure, alt=alt, name="calibration")


def selection(summary: Summary, style: Mapping[str, Style]) -> Markup:
    """Draw how many of the surest patients a model is wrong on, by the share that is kept."""
    with mpl.rc_context(STYLE):
        figure, axes = panel(3.3, 3.0)
        for one in summary.calibrations:
            _draw(axes, style[one.label], one.selected)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("share of patients kept, the surest first")
        axes.set_ylabel("share of them that was wrong")
        alt = "share of wrong answers among the surest patients, for each model"
        return svg(figure, alt=alt, name="selection")


def decisions(summary: Summary, style: Mapping[str, Style]) -> Markup:
    """Draw the net benefit of treating by each model, of treating everybody, and nobody."""
    with mpl.rc_context(STYLE):
        figure, axes = panel(3.3, 3.0)
        axes.axhline(0, color=FAINT, linewidth=1)
        judged = [one for one in summary.calibrations if one.decisions]
        for one in judged:
            points = [(found.threshold, found.model.value) for found in one.decisions]
            _draw(axes, style[one.label], points, size=4)
        everybody = judged[0].decisions  # the same patients under every model
        thresholds = [found.threshold for found in everybody]
        axes.plot(thresholds, [found.treat_all for found in everybody], color=FAINT)
        highest = max(found.model.value for one in judged for found in one.decisions)
        axes.set_ylim(-0.1, max(0.1, 1.15 * highest))
        axes.set_xlabel("probability from which a patient is treated")
        axes.set_ylabel("net benefit, true positives a patient")
        alt = "net benefit of treating by each model, by threshold; light lines treat all and none"
        return svg(figure, alt=alt, name="decisions")


def _draw(axes: Axes, look: Style, points: Sequence[Sequence[float]], size: int = 5) -> None:
    """Draw the line of one model through points, each with its place across and its height."""
    across, heights = [point[0] for point in points], [point[1] for point in points]
    marks = {"marker": look.marker, "markersize": size, "linestyle": look.dashes}
    axes.plot(across, heights, color=look.color, **marks)
