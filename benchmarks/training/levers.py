"""What each lever of training brings on real data: a line each, all with the same steps.

    python benchmarks/training/levers.py lgg DATA OUT [LINE ...]
    python benchmarks/training/levers.py tumour_kind DATA OUT [LINE ...]
    python benchmarks/training/levers.py brain_age DATA OUT [LINE ...]

DATA is a folder as the experiment takes it. The first line is the base: short rounds whose
optimizer is kept. Each other line changes the settings that it names, and nothing else. Lines
without LINE are all lines of the task. A line that was stopped goes on, and loses no round.
Test patients are scored and were chosen on by nobody, but who picks a line by them has done so.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import fedmri
from fedmri.reports.text.words import with_interval

N_SEEDS = 3
KEPT, ANEW = "train.is_optimizer_kept=true", "train.is_optimizer_kept=false"
BOTH = ("federated", "pooled")


@dataclass(frozen=True)
class Line:
    """A row of the table.

    Attributes:
        settings: Beside those of the task.
        arms: What is trained: pooled too where a lever is no matter of federations alone.
    """

    settings: tuple[str, ...] = ()
    arms: tuple[str, ...] = ("federated",)


@dataclass(frozen=True)
class Trial:
    """A task and its lines.

    Attributes:
        settings: Of every line.
        short: Steps and number of short rounds.
        long: Steps and number of long ones, as many steps together.
        lines: Levers of this task alone, by name.
    """

    settings: tuple[str, ...]
    short: tuple[int, int]
    long: tuple[int, int]
    lines: Mapping[str, Line] = field(default_factory=dict)

    @property
    def all_lines(self) -> dict[str, Line]:
        """Every line by its name, the base first."""
        short, long = _rounds(*self.short), _rounds(*self.long)
        base = (*short, KEPT)
        every = {"base": Line(arms=BOTH), **COMMON, **self.lines}
        lines = {name: Line((*base, *one.settings), one.arms) for name, one in every.items()}
        return lines | {
            "optimizer made anew each round": Line((*short, ANEW)),
            "long rounds": Line((*long, KEPT)),
            "long rounds, optimizer made anew": Line((*long, ANEW)),
        }


COMMON = {
    "strategy fedadamw": Line(("strategy=fedadamw",)),
    "strategy ima": Line(("strategy=ima",)),
    "strategy diloco": Line(("strategy=diloco",)),
    "norm of each image": Line(("model.norm=instance",), BOTH),
}
AUGMENTED = ("data.augment.affine=0.3", "data.augment.gamma=0.3")
TRIALS = {
    "lgg": Trial(
        ("experiment=lgg_tumour", "data.source.modalities=[FLAIR,T1w,ce-gadolinium_T1w]"),
        (12, 84),
        (84, 12),
        {
            "a third of slices with tumour": Line(("data.sample.foreground=0.33",), BOTH),
            "twice the learning rate": Line(("train.lr=0.004",)),
            "elastic bending": Line(("data.augment.elastic=0.2",), BOTH),
            "mirror images": Line(("data.augment.flip=0.5", "data.is_mirrored=true"), BOTH),
            "small parts left out": Line(("stages=[kept_parts]",)),
            "twice the width": Line(("model.width=16",), BOTH),
        },
    ),
    "tumour_kind": Trial(
        (
            *("experiment=tumour_kind", "strategy=fedavg", "data.source.sites=[cheng]"),
            *("data.check.duplicates=exclude", "partition.alpha=0.3"),
        ),
        (12, 100),
        (60, 20),
        {
            "classes as they come": Line(
                ("data.sample.is_class_balanced=false", "target.loss=auto"), BOTH
            ),
            "twice the learning rate": Line(("train.lr=0.002",)),
            "images changed at random": Line(AUGMENTED, BOTH),
            "hospitals alike": Line(("partition.alpha=1000",), BOTH),
        },
    ),
    "brain_age": Trial(
        ("experiment=brain_age",),
        (10, 100),
        (50, 20),
        {
            "twice the learning rate": Line(("train.lr=0.002",)),
            "images changed at random": Line(AUGMENTED, BOTH),
            "target scaled by sums": Line(("stages=[target_scale]",), BOTH),
        },
    ),
}


def main() -> None:
    """Train the lines that have yet to be, and print the table."""
    name, data, out, *wanted = sys.argv[1:]
    lines = TRIALS[name].all_lines
    folders = {
        line: _trained(TRIALS[name], lines[line], data, Path(out) / line.replace(" ", "-"))
        for line in dict.fromkeys(["base", *(wanted or lines)])
    }
    print("| line | federated (95 % interval) | minus the base | shown | pooled |")
    print("| --- | --- | --- | --- | --- |")
    compared = fedmri.compare_runs(list(folders.values()))
    for (line, folder), one in zip(folders.items(), compared, strict=True):
        minus = with_interval(one.difference, is_signed=True) if one.difference else ""
        shown = one.verdict if one.difference else ""
        cells = (line, with_interval(one.score), minus, shown, _pooled(folder))
        print("| " + " | ".join(cells) + " |")


def _rounds(n_steps: int, n_rounds: int) -> tuple[str, ...]:
    scored = f"rounds.evaluate_every={n_rounds}"
    return (f"train.local_steps={n_steps}", f"rounds.n_rounds={n_rounds}", scored)


def _trained(trial: Trial, line: Line, data: str, runs: Path) -> Path:
    """Train a line, or go on with it; return its run folder."""
    begun = next(runs.glob("*/config.yaml"), None)
    if begun is not None and (begun.parent / "report.html").exists():
        return begun.parent
    if begun is not None:
        return fedmri.Study.resumed(begun.parent).run().folder
    settings = [
        *trial.settings,
        *line.settings,
        f"data.source.path={data}",
        f"simulation.n_seeds={N_SEEDS}",
        f"simulation.arms=[{','.join(line.arms)}]",
        f"simulation.runs={runs}",
        "simulation.n_pictures=0",
    ]
    return fedmri.Study.from_settings(settings).run().folder


def _pooled(folder: Path) -> str:
    """Return the score of pooled training, where the line has it."""
    summary = fedmri.StudyResult.open(folder).summary
    pooled = (row.overall[summary.metric] for row in summary.rows if row.label == "pooled")
    return with_interval(next(pooled, None))


if __name__ == "__main__":
    main()
