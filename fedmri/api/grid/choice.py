"""Which run of a study each arm is taken from: validation patients alone decide."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmri.arm import REFERENCES, read_comparison, write_comparison
from fedmri.arm import compared as rows_of
from fedmri.errors import ConfigError
from fedmri.machine.file_names import file_name
from fedmri.machine.files import write_whole
from fedmri.reports.groups import GROUPS
from fedmri.reports.privacy import privacy_of
from fedmri.reports.results import TRIALS, Results, load_results
from fedmri.tasks.task import Task

MADE = ("ensemble", "votes")
"""Models that are made of those of other arms, which may come from other runs."""
UNCHOSEN = (*REFERENCES, *MADE)
"""Models that no validation patient has scored."""
_UNFINISHED = shutil.ignore_patterns("checkpoints", "best.safetensors")
SHARED = ("config.yaml", "environment.json", "manifest.tsv", "used.json", "names.json")
IF_THERE = (GROUPS, "label_losses.tsv")
"""Of the report, too; runs of before have not all of them."""


@dataclass(frozen=True)
class Chosen:
    """The run that an arm is taken from, with its score on validation patients."""

    arm: str
    run: Path
    score: float


def validation_scores(results: Results, metric: str) -> dict[str, float]:
    """Return the mean of a metric over the validation patients of all sites, by arm.

    The score is that of the final model's round, or of the last one before it that was validated.
    Seeds count alike.
    """
    ends = {(r["arm"], r["seed"]): r["round"] for r in results.of_kind("done")}
    rounds: dict[tuple[str, int], dict[int, list[tuple[int, float]]]] = {}
    for record in results.of_kind("validation"):
        key = record["arm"], record["seed"]
        value = dict(record.get("metrics") or {}).get(metric, math.nan)
        if record["round"] <= ends.get(key, -1) and math.isfinite(value):
            scored = rounds.setdefault(key, {}).setdefault(record["round"], [])
            scored.append((record["n_subjects"], value))
    by_arm: dict[str, list[float]] = {}
    for (arm, _), found in rounds.items():
        last = found[max(found)]
        mean = sum(n * value for n, value in last) / sum(n for n, _ in last)
        by_arm.setdefault(arm, []).append(mean)
    return {arm: sum(scores) / len(scores) for arm, scores in by_arm.items()}


def choose(runs: Sequence[Path], task: Task) -> tuple[Chosen, ...]:
    """Return the run of each arm with its best score; the first of equals.

    Every arm has as many trials as every other. Test patients have no say.

    Raises:
        ConfigError: The runs divide the data differently, or no validation patient was scored
            (C03); an arm was validated at the site that it leaves out (C15).
    """
    found = [load_results(run) for run in runs]
    _refuse_other_data(found)
    _refuse_known_site(found)
    scores = [validation_scores(one, task.primary) for one in found]
    arms = [arm for arm in found[0].comparison.arms if arm.role not in UNCHOSEN]
    sign = 1 if task.is_higher_better else -1
    chosen = []
    for arm in arms:
        known = [(one.get(arm.label, math.nan), run) for one, run in zip(scores, runs, strict=True)]
        known = [(score, run) for score, run in known if math.isfinite(score)]
        if len(known) < len(runs):
            what, want = (
                f"choice for arm {arm.label}",
                f"a validation score in all {len(runs)} runs",
            )
            fix = "set rounds.evaluate_every, data.split.val, and arms that all runs share"
            raise ConfigError("C03", what, found=f"{len(known)} scores", want=want, fix=fix)
        score, run = max(known, key=lambda one: sign * one[0])
        chosen.append(Chosen(arm.label, run, score))
    return tuple(chosen)


def _refuse_other_data(found: Sequence[Results]) -> None:
    prints = {json.dumps(one.environment["data_fingerprints"], sort_keys=True) for one in found}
    if len(prints) > 1:
        fix = "leave data, split, partition and seed out of the grid, or set is_chosen: false"
        what, want = "choice among runs", "the same patients on the same sides in all"
        raise ConfigError("C03", what, found=f"{len(prints)} divisions", want=want, fix=fix)


def _refuse_known_site(found: Sequence[Results]) -> None:
    """Refuse to choose by patients of a site that shall be new to the arm."""
    for one in found:
        for record in one.of_kind("validation"):
            arm = one.comparison.arm(str(record["arm"]))
            if arm.left_out and record["site"] == arm.left_out:
                what, fix = f"choice for arm {arm.label}", "run the study again in a new folder"
                said, want = f"validation patients of {arm.left_out}", "those of other sites alone"
                raise ConfigError("C15", what, found=said, want=want, fix=fix)


def gather(
    chosen: Sequence[Chosen], runs: Sequence[Path], told: Mapping[str, Any], to: Path
) -> None:
    """Write a run folder of the chosen arms, to be reported as any other.

    Args:
        chosen: Where each arm comes from.
        runs: All runs.
        told: What is said of the choice, beside the number of trials.
        to: The folder; one that is there is replaced.
    """
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for name in SHARED:
        shutil.copyfile(chosen[0].run / name, to / name)
    for name in IF_THERE:
        if (chosen[0].run / name).exists():
            shutil.copyfile(chosen[0].run / name, to / name)
    comparison = read_comparison(runs[0])
    write_comparison(to, rows_of(arm for arm in comparison.arms if arm.role not in MADE))
    place = {one.arm: one.run for one in chosen}
    kept = [arm.label for arm in comparison.arms if arm.role not in MADE]
    lines = []
    for label in kept:
        run = place.get(label, runs[0])
        for kind in ("cases", "validation", "pictures", "arms"):
            source = run / kind / file_name(label)
            if source.exists():
                shutil.copytree(source, to / kind / file_name(label), ignore=_UNFINISHED)
        lines += [line for line in _records(run) if json.loads(line)["arm"] == label]
    (to / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    write_whole(to / TRIALS, json.dumps({"n_trials": len(runs), **told}, indent=1) + "\n")


def privacy_of_all(runs: Sequence[Path]) -> dict[str, float]:
    """Return what all runs together cost the patient who loses most; empty without noise.

    The losses of one arm, seed and site are added up over the runs, epsilon and delta alike: that
    holds for any trials, also where one was chosen by looking at others. Failed runs count, too.

    Source:
        Dwork and Roth 2014, doi:10.1561/0400000042, theorem 3.16.
    """
    total: dict[tuple[str, int, str], list[float]] = {}
    for run in runs:
        for one in privacy_of(map(json.loads, _records(run))):
            spent = total.setdefault((one.arm, one.seed, one.site), [0.0, 0.0])
            spent[0], spent[1] = spent[0] + one.epsilon, spent[1] + one.delta
    if not total:
        return {}
    epsilon, delta = max(total.values())
    return {"epsilon": epsilon, "delta": delta}


def _records(run: Path) -> list[str]:
    path = run / "metrics.jsonl"  # a run that failed early has none
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in text.splitlines() if line]
