"""A plan before it is signed: begun from a data set, checked as a whole, compared, explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from docs.generate.parts import PAGES, part_pages
from docs.generate.settings import settings_page
from fedmri.agreement.plan_changes import PARTS, plan_changes, settings_of
from fedmri.api.plans.check import DeclaredSite, check_plan
from fedmri.api.plans.reference import explain_settings
from fedmri.config import load
from fedmri.errors import ConfigError, FedmriError
from tests.conftest import program

WRONG = """
target: {kind: regression, name: age}
model: cnn5
train: {lr: -1, batch_size: many, colour: 3}
rounds: {n_rounds: 4, min_sites: 9}
stratgy: fedavg
"""
CONTRADICTING = """
target: {kind: regression, name: age}
model: {name: cnn5, norm: batch}
strategy: median
privacy: {noise_multiplier: 1.0, batch_subjects: 40}
secagg: {is_on: true}
rounds: {is_late_join_allowed: true}
"""


def fedmri(*words: str) -> Result:
    """Run the command in this process."""
    result = CliRunner().invoke(program(), list(words))
    if result.exception and not isinstance(result.exception, SystemExit | FedmriError):
        raise result.exception
    return result


def write(folder: Path, text: str) -> Path:
    """Return a file of settings."""
    path = folder / "plan.yaml"
    path.write_text(text)
    return path


def test_all_wrong_values_are_found_at_once(tmp_path: Path) -> None:
    """Unknown names and refused values, each with its code; what is right is still read."""
    found = check_plan(write(tmp_path, WRONG))
    said = [(one.code, one.what) for one in found.problems]
    assert sorted(said) == [
        ("C01", "setting train.batch_size"),
        ("C01", "setting train.lr"),
        ("C02", "setting stratgy"),
        ("C02", "setting train.colour"),
    ]
    assert found.plan is not None
    assert found.plan.rounds.min_sites == 9


def test_all_contradictions_are_found_at_once(tmp_path: Path) -> None:
    """Each claim that a part does not make is named; loading the plan raises the first of them."""
    path = write(tmp_path, CONTRADICTING)
    found = check_plan(path)
    codes = [one.code for one in found.problems]
    assert {"P57", "P32"} <= set(codes)
    assert codes.count("P57") == 2  # the strategy, and late joining
    with pytest.raises(FedmriError) as caught:
        load([], path)
    assert str(caught.value) == str(found.problems[0])
    result = fedmri("plan", "check", str(path))
    assert result.exception is not None
    assert getattr(result.exception, "exit_code", 0) == found.problems[0].exit_code
    assert result.output.count("Also: ") == len(codes) - 1


def test_a_plan_is_held_against_declared_sites_and_their_data(
    tmp_path: Path, hospitals: Path
) -> None:
    """Too few sites, more patients a step than a site has, and data without the target."""
    settings = ["target.kind=regression", "target.name=nothing", "rounds.min_sites=3"]
    settings += ["privacy.noise_multiplier=1", "privacy.batch_subjects=16"]
    settings += ["model=cnn5", "model.norm=group"]
    sites = [DeclaredSite("a", 400), DeclaredSite("b", 10)]
    found = check_plan(None, settings, sites=sites, data=[hospitals])
    said = [(one.code, one.what) for one in found.problems]
    assert ("C03", "setting rounds.min_sites") in said
    assert ("C03", "site b") in said
    assert ("C03", "site a") not in said
    assert any(code.startswith("D") for code, _ in said)
    assert check_plan(None, [*settings, "rounds.min_sites=2"], sites=sites[:1] * 2).problems == ()


def test_a_draft_of_a_data_set_is_a_plan(tmp_path: Path, hospitals: Path) -> None:
    """Its images and target are those of the data, every line has its meaning, and it checks."""
    path = tmp_path / "begun.yaml"
    said = fedmri("plan", "init", str(path), "--data", str(hospitals), "--rounds", "7")
    assert said.exit_code == 0, said.output
    assert "To put right" not in said.output
    plan = load([], path).plan
    assert (plan.name, plan.rounds.n_rounds) == ("begun", 7)
    assert "# Learning rate, the peak of its schedule.\n  lr: 0.001" in path.read_text()
    assert fedmri("plan", "check", str(path)).exit_code == 0
    again = fedmri("plan", "init", str(path), "--data", str(hospitals))
    assert getattr(again.exception, "code", "") == "U20"


def test_a_difference_has_the_meaning_of_each_setting(tmp_path: Path) -> None:
    """Parts, sections and stages; equal plans differ in nothing."""
    old = load(["target.kind=regression", "target.name=age"]).plan
    changed = ["strategy=fedprox", "train.lr=0.5", "harmonize=nyul"]
    new = load(["target.kind=regression", "target.name=age", *changed]).plan
    assert plan_changes(old, old) == []
    found = {change.key: change for change in plan_changes(old, new)}
    assert (found["strategy.name"].before, found["strategy.name"].after) == ("fedavg", "fedprox")
    assert found["train.lr"].meaning == "Learning rate, the peak of its schedule."
    assert found["strategy.mu"].before == "-"
    assert found["strategy.mu"].meaning.startswith("Pull of a site")
    assert "stages.nyul.weighting" in found
    paths = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for path, rate in zip(paths, (0.1, 0.2), strict=True):
        path.write_text(f"target: {{kind: regression, name: age}}\ntrain: {{lr: {rate}}}\n")
    assert "train.lr: 0.1 -> 0.2\n" in fedmri("plan", "diff", *map(str, paths)).output


def test_every_setting_is_explained_by_the_words_of_the_reference() -> None:
    """Meaning, what it takes and default; a section, a part, and a slip with its nearest."""
    said = json.loads(fedmri("plan", "explain", "rounds.n_rounds", "--json").output)
    (one,) = said[0]["settings"]
    assert one["kind"] == "a whole number"
    assert f"| `rounds.n_rounds` | a whole number | `{one['default']}` | " in settings_page()
    assert (
        "takes adamw, adam, sgd, ranger; default adamw"
        in fedmri("plan", "explain", "train.optimizer").output
    )
    assert "strategy.mu" in fedmri("plan", "explain", "strategy=fedprox").output
    page = settings_page()
    for section in explain_settings():
        for setting in section.settings:
            assert setting.meaning.endswith("."), setting.key
            assert setting.kind, setting.key
            is_of_part = " " in section.key
            assert is_of_part or f"| `{setting.key}` |" in page
    with pytest.raises(ConfigError, match=r"nearest is train.lr.*\[C02\]"):
        explain_settings("train.learning_rate")


def told(key: str) -> str:
    """Return the meaning that the command prints of one setting."""
    found = [one for section in explain_settings(key) for one in section.settings]
    (meaning,) = {one.meaning for one in found if one.key == key}
    return meaning


def test_every_setting_that_a_plan_may_hold_is_found() -> None:
    """By the command under its own key, and on the page of settings."""
    plan, page = load(["target.kind=regression", "target.name=age"]).plan, settings_page()
    own = [key for key in settings_of(plan) if key.partition(".")[0] not in PARTS]
    assert len(own) > 100
    assert [key for key in own if not told(key).endswith(".")] == []
    assert [key for key in own if f"| `{key}` |" not in page] == []
    for kind, parts in PARTS.items():
        assert told(f"{kind}.{parts.key}").endswith(".")
        found = explain_settings(f"{kind}.{parts.key}")[0].settings[0]
        assert set(parts.own) <= set(found.values)


@pytest.mark.parametrize("kind", ["strategies", "stages", "models", "tasks"])
def test_every_setting_of_every_part_is_found(kind: str) -> None:
    """By the command under its own key, by its part, and on the part's page."""
    _, parts, section = PAGES[kind]
    pages = part_pages()[f"reference/parts/{kind}.md"].split("\n## ")
    by_name = {page.partition("\n")[0]: page for page in pages}
    for name in parts.own:
        (whole,) = explain_settings(f"{section}={name}")
        prefix = f"{section}.{name}" if parts.is_list else section
        assert {one.key for one in whole.settings} == {
            f"{prefix}.{x}" for x in parts.settings(name)
        }
        assert all(one.meaning.endswith(".") for one in whole.settings), whole
        assert all(f"| `{x}` |" in by_name[name] for x in parts.settings(name))
        for one in whole.settings:
            found = [s.key for part in explain_settings(one.key) for s in part.settings]
            assert one.key in found
