"""A study from a BIDS folder to its results: the same bits whatever happens on the way."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmri.clients.egress.ledger import entries
from fedmri.clients.training.results import read_cases
from fedmri.config import load
from fedmri.errors import ConfigError, PrivacyError, RoundError, UsageError
from fedmri.machine.files import hold
from fedmri.reports.results import load_results
from fedmri.reports.summary import summarise
from fedmri.server.rounds.checkpoint import digest, load_weights_file
from fedmri.server.rounds.records import Record
from fedmri.simulation.partition import PartitionConfig
from fedmri.simulation.settings import SimulationConfig
from fedmri.simulation.study import Study, advice, run_study
from tests.conftest import TINY, RunTiny, Settings, run_in

SITES = ("site01", "site02", "site03")
PLAIN_SGD = ("train.optimizer=sgd", "train.momentum=0", "train.clip_grad_norm=0", "train.lr=0.05")


FEDERATED = "simulation.arms=[federated]"

Finished = Callable[..., Path]


@pytest.fixture(scope="module")
def finished(tiny: Settings, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return a function that gives the folder of an undisturbed run, which is run once."""
    done: dict[tuple[str, ...], Path] = {}

    def run(*more: str) -> Path:
        if more not in done:
            done[more] = run_in(tmp_path_factory.mktemp("finished"), tiny(*more))
        return done[more]

    return run


def model_of(folder: Path, arm: str = "federated", seed: int = 0) -> str:
    """Return the SHA-256 of an arm's final weights, computed from its file."""
    path = folder / "arms" / arm / f"seed-{seed}" / "model.safetensors"
    weights, notes = load_weights_file(path)
    assert digest(weights) == notes["sha256"]
    return digest(weights)


def records(folder: Path, **wanted: Any) -> list[Record]:
    """Return the records of a run that have the wanted fields."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [r for r in found if all(r.get(key) == value for key, value in wanted.items())]


def test_the_same_seed_gives_the_same_weights(finished: Finished, run_tiny: RunTiny) -> None:
    """The determinism gate: one seed, one SHA-256; another seed, another."""
    first = model_of(finished(FEDERATED))
    assert model_of(run_tiny("b", FEDERATED)) == first
    assert model_of(run_tiny("c", FEDERATED, "seed=1"), seed=1) != first


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(("strategy=fedprox", "strategy.mu=0.1"), marks=pytest.mark.slow),
        ("strategy=fedbn", "model.norm=batch"),
        pytest.param(
            ("strategy=silobn", "model.norm=batch", "train.optimizer=ranger"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("train.is_optimizer_kept=true", "train.schedule=plateau", "model.dropout=0.2"),
            marks=pytest.mark.slow,
        ),
        (
            *("data.augment.affine=1", "data.augment.noise=1", "data.augment.mixup=1"),
            *("train.precision=bf16", "train.memory_format=channels_last"),
        ),
        ("strategy=scaffold", "harmonize=nyul", "rounds.n_rounds=3", *PLAIN_SGD),
        ("strategy=fedrep", "train.is_optimizer_kept=true"),
    ],
    ids=lambda settings: settings[0],
)
def test_workers_do_not_change_the_bits(run_tiny: RunTiny, settings: tuple[str, ...]) -> None:
    """Two processes, or one: the same weights in every arm, whatever state and draws there are."""
    alone = run_tiny("alone", *settings)
    together = run_tiny("together", *settings, "simulation.workers=2")
    arms = ["federated", "pooled", *(f"local-{site}" for site in SITES)]
    assert [model_of(alone, arm) for arm in arms] == [model_of(together, arm) for arm in arms]


STOPS = ("round", "round_total", "validation", "done")


class StopHere(Exception):  # noqa: N818  # not an error: it stands for a power cut
    """Ends a run in the middle."""


def stop_at(kind: str, number: int) -> Callable[[Record], None]:
    """Return what ends a run at so many records of a kind, once."""
    seen = count(1)

    def stop(record: Record) -> None:
        if record["kind"] == kind and next(seen) == number:
            raise StopHere

    return stop


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [
        pytest.param(strategy, kind, marks=() if is_quick else pytest.mark.slow)
        for strategy, quick in (("fedavg", STOPS), ("fedbn", STOPS[2:3]), ("scaffold", STOPS[:1]))
        for kind, is_quick in ((kind, kind in quick) for kind in STOPS)
    ],
)
def test_a_run_that_stopped_anywhere_goes_on_to_the_same_bits(
    finished: Finished, run_tiny: RunTiny, strategy: str, kind: str
) -> None:
    """Stopped within a round, after it, while scoring or at the end, and called again."""
    settings = [
        *("model.norm=batch", f"strategy={strategy}", "rounds.n_rounds=3"),
        *("train.is_optimizer_kept=true", FEDERATED),
        *(PLAIN_SGD if strategy == "scaffold" else ()),
    ]
    whole = finished(*settings)
    with pytest.raises(StopHere):
        run_tiny("stopped", *settings, observe=stop_at(kind, 1 if kind == "done" else 2))
    resumed = run_tiny("stopped", *settings)
    assert model_of(resumed) == model_of(whole)
    without_time = [
        [{k: v for k, v in r.items() if "seconds" not in k and k != "metrics"} for r in records(f)]
        for f in (resumed, whole)
    ]
    assert without_time[0] == without_time[1]


STATEFUL = (
    *("fedavgm", "diloco", "fedadam", "ima", "feddyn", "fednova"),
    *("ditto", "fedrep", "cyclic", "median"),
)


def test_every_strategy_trains_under_one_budget_and_resumes(run_tiny: RunTiny) -> None:
    """Each is an arm of its own; stopped within the second round, each ends with the same bits."""
    configs = ",".join(f"{{name: {name}}}" for name in STATEFUL if name != "feddyn")
    configs += ",{name: feddyn, weighting: uniform, mu: 0.1}"
    settings = [
        *("rounds.n_rounds=2", "rounds.evaluate_every=0", FEDERATED),
        f"simulation.strategies=[{configs}]",
    ]
    whole = run_tiny("whole", *settings)
    seen: dict[str, int] = {}

    def stop(record: Record) -> None:
        arm = record.get("arm", "")
        seen[arm] = seen.get(arm, 0) + (record["kind"] == "round")
        if arm and seen[arm] == 5:
            seen[arm] += 1
            raise StopHere

    for _ in STATEFUL:
        with pytest.raises(StopHere):
            run_tiny("stopped", *settings, observe=stop)
    resumed = run_tiny("stopped", *settings)
    models = {name: model_of(whole, f"federated-{name}") for name in STATEFUL}
    assert models == {name: model_of(resumed, f"federated-{name}") for name in STATEFUL}
    assert len(set(models.values())) == len(STATEFUL)
    plan = load(["experiment=smoke"]).plan
    summary = summarise(load_results(whole), plan.target)
    labels = {row.label for row in summary.rows}
    assert {f"federated:{name}" for name in STATEFUL} <= labels


def test_harmonized_images_are_fitted_once_by_sums(finished: Finished, run_tiny: RunTiny) -> None:
    """Nyúl's landmarks: one version a federation, another for each site alone, never of test scans.

    The federation's are those of all data pooled, for the sums are the same.
    """
    plain, nyul = finished(), run_tiny("nyul", "harmonize=nyul")
    assert model_of(plain) != model_of(nyul)
    versions = {r["arm"]: r["version"] for r in records(nyul, kind="harmonized")}
    assert set(versions) == {"federated", "pooled", *(f"local:{site}" for site in SITES)}
    assert len({versions[f"local:{site}"] for site in SITES}) == len(SITES)
    assert not records(plain, kind="harmonized")


@pytest.mark.parametrize("method", ["zscore", "robust"])
def test_moments_and_quantiles_of_all_sites_are_fitted_in_steps(
    run_tiny: RunTiny, method: str
) -> None:
    """Three sums each, on images that keep their own scale; z-scored ones are refused."""
    folder = run_tiny(method, f"harmonize={method}", FEDERATED)
    assert len(records(folder, kind="harmonized")) == 1
    with pytest.raises(ConfigError, match=r"scaling.*\[C03\]"):
        load([f"harmonize={method}", "data.prepare.scaling=zscore"])


def test_a_harmonized_run_goes_on_with_its_landmarks(run_tiny: RunTiny) -> None:
    """Stopped in its second round, with two workers or none: the same bits, fitted once."""
    settings = ("harmonize=nyul", "rounds.n_rounds=3", FEDERATED)
    whole = run_tiny("whole", *settings, "simulation.workers=2")
    with pytest.raises(StopHere):
        run_tiny("stopped", *settings, observe=stop_at("round", 5))
    resumed = run_tiny("stopped", *settings)
    assert model_of(resumed) == model_of(whole)
    assert len(records(resumed, kind="harmonized")) == 1


PRIVATE = (
    *("privacy.noise_multiplier=1.0", "privacy.batch_subjects=2", "train.optimizer=sgd"),
    *("train.momentum=0", "train.clip_grad_norm=0", "train.lr=0.05"),
)


def test_private_training_counts_what_it_costs(run_tiny: RunTiny) -> None:
    """Epsilon rises with the rounds, each site has its own, and no loss is told."""
    folder = run_tiny("private", *PRIVATE, FEDERATED, "rounds.n_rounds=3")
    for site in SITES:
        rounds = records(folder, kind="round", site=site)
        spent = [r["epsilon"] for r in rounds]
        assert len(spent) == 3
        assert 0 < spent[0] < spent[1] < spent[2]
        assert all(r["loss"] != r["loss"] for r in rounds)  # NaN alone is not itself


def test_a_run_that_is_going_on_is_not_taken_up_by_a_second_process(
    finished: Finished, run_tiny: RunTiny
) -> None:
    """Two processes in one folder would mix their rounds; the first one goes on undisturbed."""
    refused: list[str] = []

    def interfere(record: Record) -> None:
        if record["kind"] == "round" and not refused:
            with pytest.raises(UsageError, match=r"another process.*\[U02\]") as caught:
                run_tiny("a", FEDERATED)
            refused.append(str(caught.value))

    disturbed = run_tiny("a", FEDERATED, observe=interfere)
    assert refused
    assert model_of(disturbed) == model_of(finished(FEDERATED))


def test_private_training_repeats_to_the_bit_and_spends_once(run_tiny: RunTiny) -> None:
    """Stopped in a round and resumed, in workers or not: the same weights and the same ledgers."""
    settings = (*PRIVATE, FEDERATED, "strategy=scaffold", "harmonize=nyul")
    whole = run_tiny("whole", *settings, "simulation.workers=2")
    with pytest.raises(StopHere):
        run_tiny("stopped", *settings, observe=stop_at("round", 5))
    resumed = run_tiny("stopped", *settings)
    assert model_of(resumed) == model_of(whole)
    for site in SITES:
        updates = [
            [
                line["update"]
                for line in entries(f / "sites" / site / "federated/seed-0/privacy.jsonl")
            ]
            for f in (whole, resumed)
        ]
        assert updates[0] == updates[1]
        assert len(updates[0]) == 2


NOISED_SUMS = (
    "harmonize=nyul",
    "stages.nyul.weighting=patient",
    "stages.nyul.noise_multiplier=0.01",
)


def test_noise_on_sums_is_added_to_the_patients_account(run_tiny: RunTiny) -> None:
    """Sums before the rounds and steps in them compose; a resumed run has the same bits."""
    settings = (*PRIVATE, *NOISED_SUMS, FEDERATED)
    whole = run_tiny("whole", *settings, "simulation.workers=2")
    with pytest.raises(StopHere):
        run_tiny("stopped", *settings, observe=stop_at("round", 2))
    resumed = run_tiny("stopped", *settings)
    assert model_of(resumed) == model_of(whole)
    plain = run_tiny("plain", *PRIVATE, FEDERATED)
    for site in SITES:
        ledgers = (f / "sites" / site / "federated/seed-0/privacy.jsonl" for f in (whole, resumed))
        first, again = ([line["update"] for line in entries(path)] for path in ledgers)
        assert first == again
        assert len(first) == 3, "one line for the sums, one for each round"
        spent = [records(f, kind="round", site=site)[0]["epsilon"] for f in (whole, plain)]
        assert spent[0] > spent[1]


def test_noise_goes_under_the_masks_of_a_secure_sum(run_tiny: RunTiny) -> None:
    """The server learns the noised total alone, and it is that of sums in clear."""
    settings = (*NOISED_SUMS, FEDERATED, "rounds.n_rounds=1")
    clear = run_tiny("clear", *settings)
    summed = run_tiny("summed", *settings, "secagg.is_on=true")
    for site in SITES:
        ledgers = (f / "sites" / site / "federated/seed-0/privacy.jsonl" for f in (clear, summed))
        first, again = ([line["noise_multiplier"] for line in entries(path)] for path in ledgers)
        assert first == again == [0.01]


def test_a_round_beyond_the_budget_is_not_trained(run_tiny: RunTiny) -> None:
    """The site says so by its code, before it trains; the run ends where too few are left."""
    with pytest.raises(RoundError, match=r"site01 \(P31: .*\[R01\]"):
        run_tiny("a", *PRIVATE, "privacy.max_epsilon=0.01", FEDERATED)


@pytest.mark.parametrize(
    ("settings", "n_train", "said"),
    [
        ((), {"a": 9, "b": 1}, ["2 training patients or fewer: b. Look at strategy=cyclic"]),
        (("strategy=cyclic",), {"a": 9, "b": 1}, []),
        (("strategy=fednova",), {"a": 9}, ["counts steps of SGD"]),
        (("strategy=fednova", *PLAIN_SGD), {"a": 9}, []),
        (
            ("simulation.strategies=[{name: fedavg},{name: fednova}]",),
            {"a": 9},
            ["counts steps of SGD"],
        ),
    ],
)
def test_what_a_strategy_may_not_suit_is_said(
    settings: tuple[str, ...], n_train: dict[str, int], said: list[str], tmp_path: Path
) -> None:
    """Tiny sites, and steps that are not what the strategy takes them for."""
    found = load(settings)
    study = Study(found.plan, found.partition, found.simulation, tmp_path, "fedmri")
    told = advice(study, n_train)
    assert len(told) == len(said)
    assert all(part in text for part, text in zip(said, told, strict=True))


SITE_NOISE = (
    *("strategy=lgfedavg", "privacy.site.noise_multiplier=2", "privacy.site.clip_norm=0.1"),
    FEDERATED,
)


def test_a_hospitals_noise_repeats_to_the_bit_and_is_spent_once(run_tiny: RunTiny) -> None:
    """Stopped and resumed: the same weights, the same account, of one hospital and no patient."""
    whole = run_tiny("whole", *SITE_NOISE)
    with pytest.raises(StopHere):
        run_tiny("stopped", *SITE_NOISE, observe=stop_at("round", 5))
    resumed = run_tiny("stopped", *SITE_NOISE)
    assert model_of(resumed) == model_of(whole)
    for site in SITES:
        first, again = (
            list(entries(folder / "sites" / site / "federated/seed-0/privacy.jsonl"))
            for folder in (whole, resumed)
        )
        assert [line["update"] for line in first] == [line["update"] for line in again]
        assert [line["kind"] for line in first] == ["dp-site"] * 2
        rounds = records(whole, kind="round", site=site)
        assert 0 < rounds[0]["site_epsilon"] < rounds[1]["site_epsilon"]
        assert all(r["loss"] != r["loss"] for r in rounds)  # NaN: it would leave without noise


def test_a_hospitals_budget_and_a_large_network_are_refused(run_tiny: RunTiny) -> None:
    """Before anything is trained, by code."""
    with pytest.raises(RoundError, match=r"site01 \(P31: .*\[R01\]"):
        run_tiny("a", *SITE_NOISE, "privacy.site.max_epsilon=0.01")
    with pytest.raises(PrivacyError, match=r"\[P66\]"):
        run_tiny("b", *SITE_NOISE, "strategy=fedavg", "model.width=8")


def test_a_hospital_that_trains_alone_needs_no_noise(run_tiny: RunTiny) -> None:
    """Nothing leaves it, so the local and pooled arms are as they would be without."""
    arms = "simulation.arms=[local,pooled]"
    noised = run_tiny("noised", *SITE_NOISE, arms, "rounds.n_rounds=1")
    plain = run_tiny("plain", arms, "rounds.n_rounds=1")
    assert model_of(noised, "pooled") == model_of(plain, "pooled")
    assert not list(noised.rglob("privacy.jsonl"))


@pytest.mark.parametrize("strategy", ["fedrep", "lgfedavg"])
def test_own_layers_are_not_scored_where_nobody_trained_them(
    run_tiny: RunTiny, strategy: str
) -> None:
    """A left-out site has no last layer, or nothing below it: no scores, but a code."""
    settings = (f"strategy={strategy}", "simulation.protocol=loso", FEDERATED)
    folder = run_tiny("heads", *settings, "rounds.n_rounds=1")
    tests = [r for r in records(folder, kind="test") if r["arm"].startswith(f"loso:{SITES[0]} ")]
    assert {r["site"]: r["status"] for r in tests} == {
        SITES[0]: "R10", SITES[1]: "ok", SITES[2]: "ok"
    }  # fmt: skip


def test_a_finished_run_is_not_trained_again(run_tiny: RunTiny) -> None:
    """Resuming a complete run changes nothing."""
    folder = run_tiny("a")
    before = (folder / "metrics.jsonl").read_bytes()
    seen: list[Record] = []
    run_tiny("a", observe=seen.append)
    assert [r["kind"] for r in seen] == ["begun"]
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_every_model_is_tested_on_every_sites_test_patients(finished: Finished) -> None:
    """The site x site matrix is whole, and all rows are about the same patients."""
    folder = finished()
    tested = defaultdict(set)
    for record in records(folder, kind="test", status="ok"):
        tested[record["arm"]].add(record["site"])
    assert tested == {
        arm: set(SITES) for arm in ("federated", "pooled", *(f"local:{s}" for s in SITES))
    }
    patients = defaultdict(set)
    for path in (folder / "cases").glob("*/seed-0/*.jsonl"):
        names = [json.loads(line)["subject"] for line in path.read_text().splitlines()]
        patients[path.stem].add(tuple(names))
    assert all(len(lists) == 1 for lists in patients.values())


def test_arms_take_the_same_number_of_steps(run_tiny: RunTiny) -> None:
    """Federated, local and pooled share a budget: the same steps in sum, give or take a batch."""
    folder = run_tiny("a", "train.batch_size=1")
    steps: dict[str, float] = defaultdict(float)
    for record in records(folder, kind="round"):
        steps[record["arm"].split(":")[0]] += record["n_steps"]
    assert steps["federated"] == steps["local"] == steps["pooled"]


def test_examples_are_counted_not_batches(run_tiny: RunTiny) -> None:
    """A site's weight is its training volumes, whatever the batch size."""
    folder = run_tiny("a", "train.batch_size=3", FEDERATED)
    used = json.loads((folder / "used.json").read_text())
    for record in records(folder, kind="round"):
        assert record["n_examples"] == used[record["site"]]["train"]
        assert record["n_subjects"] == used[record["site"]]["train"]


def test_a_site_that_fails_is_named_and_the_others_go_on(run_tiny: RunTiny) -> None:
    """One site's prepared file is damaged between two runs: its code is recorded, no text of it."""
    settings = (FEDERATED, "rounds.n_rounds=1")
    folder = run_tiny("a", *settings)
    (folder / "arms/federated/seed-0/model.safetensors").unlink()
    (folder / "arms/federated/seed-0/checkpoints/round-000001.safetensors").unlink()
    (folder / "prepared/site02.json").write_text("{")
    run_tiny("a", *settings, "simulation.workers=2")  # new processes, which open the file again
    metrics = folder / "arms/federated/seed-0/metrics.jsonl"
    rounds = [json.loads(line) for line in metrics.read_text().splitlines()]
    status = {r["site"]: r["status"] for r in rounds if r["kind"] == "round"}
    assert status == {"site01": "ok", "site02": "D43", "site03": "ok"}


def test_too_few_sites_end_the_arm_with_their_names(run_tiny: RunTiny) -> None:
    """Training that diverges everywhere leaves no usable update; the run says so and stops."""
    with pytest.raises(RoundError, match=r"found 1 that failed: federated, .*\[R08\]") as caught:
        run_tiny("a", "train.lr=1e38", "train.optimizer=sgd", FEDERATED)
    (note,) = caught.value.__notes__
    sites = r"site01 \(R\d\d: \w+.*\), .*site03 \(R\d\d: \w+.*\), want"
    assert re.search(rf"federated: quorum: .*{sites}.*\[R01\]", note)


def test_a_site_that_is_left_out_is_tested_and_takes_no_part(run_tiny: RunTiny) -> None:
    """Each in turn. The others are tested by the federation too, to tell what the site gave."""
    folder = run_tiny("a", "simulation.protocol=loso", "simulation.arms=[federated,pooled]")
    for site in SITES:
        for arm, tested in ((f"loso:{site}", {*SITES}), (f"loso-pooled:{site}", {site})):
            assert {r["site"] for r in records(folder, kind="test", arm=arm)} == tested
        trained = {r["site"] for r in records(folder, kind="round", arm=f"loso:{site}")}
        assert trained == set(SITES) - {site}


def test_an_external_data_set_is_tested_and_never_trained_on(
    run_tiny: RunTiny, tmp_path: Path
) -> None:
    """--external adds its sites to the matrix, with batch norm adapted to its own images."""
    from fedmri.data.synthetic.data_set import SyntheticConfig, generate

    generate(tmp_path / "other", SyntheticConfig(n_sites=1, n_subjects=4, spacing_mm=8), 9)
    text = (tmp_path / "other/participants.tsv").read_text()
    for path in sorted((tmp_path / "other").rglob("*sub-*"), key=lambda p: -len(p.parts)):
        path.rename(path.with_name(path.name.replace("sub-", "sub-x")))
    (tmp_path / "other/participants.tsv").write_text(text.replace("sub-", "sub-x"))
    external = f"simulation.external={tmp_path / 'other'}"
    folder = run_tiny("a", external, "model.norm=batch", "strategy=fedbn")
    assert {r["site"] for r in records(folder, kind="test", arm="federated")} == {
        *SITES,
        "external:site01",
    }
    assert not records(folder, kind="round", site="external:site01")


@pytest.mark.parametrize(
    "settings",
    [
        ("target=regression", "target.name=age", "target.centre=50"),
        ("target=segmentation", "target.name=mask", "target.classes=[lesion]", "model=unet"),
        ("data.prepare.dimension=2d", "data.prepare.shape=[0,32,32]", "model=cnn5"),
    ],
    ids=["regression", "segmentation", "slices"],
)
def test_every_task_ends_in_a_report(run_tiny: RunTiny, settings: tuple[str, ...]) -> None:
    """The arms and the baseline are scored on the same patients with the same truths."""
    experiment = load(["experiment=smoke", *settings])
    task = experiment.plan.target
    folder = run_tiny("a", *settings, FEDERATED)
    summary = summarise(load_results(folder), task)
    has_baseline = (folder / "cases" / "baseline").exists()
    assert has_baseline == (experiment.plan.target.title != "segmentation")
    assert summary.rows


def test_a_site_without_training_patients_is_a_case(run_tiny: RunTiny, tmp_path: Path) -> None:
    """It is tested, has no model of its own, and the others train and report as ever."""
    settings = ("partition=quantity", "partition.n_sites=4", "partition.alpha=0.1", "seed=1")
    folder = run_tiny("a", *settings)
    used = json.loads((folder / "used.json").read_text())
    idle = {site for site, counts in used.items() if not counts["train"]}
    assert idle, used
    arms = {r["arm"] for r in records(folder, kind="done")}
    assert arms == {"federated", "pooled", *(f"local:{site}" for site in set(used) - idle)}


def test_the_best_round_can_be_the_model(run_tiny: RunTiny) -> None:
    """With select=best the model is that of the round with the best validation score."""
    settings = ("rounds.select=best", "rounds.n_rounds=4", "train.lr=0.01")
    folder = run_tiny("a", *settings, FEDERATED)
    totals: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for r in records(folder, kind="validation"):
        totals[r["round"]].append((r["n_subjects"], r["metrics"]["balanced_accuracy"]))
    means = {
        index: sum(n * v for n, v in scores if n) / sum(n for n, _ in scores)
        for index, scores in totals.items()
    }
    best = max(means, key=lambda index: (means[index], -index))
    assert records(folder, kind="done")[0]["round"] == best


def test_a_second_process_in_a_run_folder_is_refused(tmp_path: Path) -> None:
    """Two would mix their rounds; the refusal touches nothing."""
    study = Study(load([*TINY]).plan, PartitionConfig(), SimulationConfig(), tmp_path, "")
    number = hold(tmp_path)
    with pytest.raises(UsageError, match=r"another process that works on it.*U02"):
        run_study(study, lambda record: None)
    os.close(number)
    assert list(tmp_path.iterdir()) == []


def test_embeddings_of_test_patients_are_kept_for_the_probe(finished: Finished) -> None:
    """Of each test patient one, of the arms that the report tries; single hospitals keep none."""
    folder = finished()
    for arm in ("federated", "pooled"):
        for site in SITES:
            with np.load(folder / "embeddings" / arm / "seed-0" / f"{site}.npz") as found:
                cases = read_cases(folder / "cases" / arm / "seed-0" / f"{site}.jsonl")
                assert sorted(found["subjects"].tolist()) == sorted(c.subject for c in cases)
                assert found["values"].shape == (len(cases), found["values"].shape[1])
    assert sorted(path.name for path in (folder / "embeddings").iterdir()) == [
        "federated", "pooled",
    ]  # fmt: skip
    task = load(["experiment=smoke"]).plan.target
    assert "fewer than two sites" in summarise(load_results(folder), task).telling.reason
