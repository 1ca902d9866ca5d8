"""What probabilities are worth, drawn: calibration, errors of the surest, and net benefit."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
from markupsafe import Markup

from fedmri.reports.pages.figures import FAINT, STYLE, Style, panel, svg
from fedmri.reports.summary import Summary


def calibration(summary: Summary, style: Mapping[str, Style]) -> Markup:
    """Draw how often the predicted class was right, by its probability."""
    with mpl.rc_context(STYLE):
        figure, axes = panel(3.3, 3.0)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        for one in summary.calibrations:
            look = style[one.label]
            said, right = [p[0] for p in one.points], [p[1] for p in one.points]
            marks = {"marker": look.marker, "markersize": 5, "linestyle": look.dashes}
            axes.plot(said, right, color=look.color, **marks)
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
            look = style[one.label]
            kept, wrong = [p[0] for p in one.selected], [p[1] for p in one.selected]
            marks = {"marker": look.marker, "markersize": 5, "linestyle": look.dashes}
            axes.plot(kept, wrong, color=look.color, **marks)
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
            look = style[one.label]
            values = [found.model.value for found in one.decisions]
            thresholds = [found.threshold for found in one.decisions]
            marks = {"marker": look.marker, "markersize": 4, "linestyle": look.dashes}
            axes.plot(thresholds, values, color=look.color, **marks)
        all_of_them = judged[0].decisions  # the same patients under every model
        axes.plot(thresholds, [found.treat_all for found in all_of_them], color=FAINT)
        highest = max(found.model.value for one in judged for found in one.decisions)
        axes.set_ylim(-0.1, max(0.1, 1.15 * highest))
        axes.set_xlabel("probability from which a patient is treated")
        axes.set_ylabel("net benefit, true positives a patient")
        alt = "net benefit of treating by each model, by threshold; light lines treat all and none"
        return svg(figure, alt=alt, name="decisions")
