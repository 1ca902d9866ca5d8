"""From YAML and overrides to checked settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from fedmri.claims import Need, needs_of
from fedmri.config import (
    _composed,
    as_yaml,
    experiment_of,
    groups,
    load,
    load_resolved,
    setting_names,
)
from fedmri.errors import ConfigError
from fedmri.models.backbone.densenet121 import DenseNet121
from fedmri.models.build import build_network
from fedmri.models.registry import MODELS
from fedmri.models.voxel.unet import UNet
from fedmri.plan import from_json, to_json
from fedmri.tasks.registry import TASKS


def test_the_defaults_are_the_embedded_experiment() -> None:
    """Without a word the five hospitals of the embedded data set are trained."""
    experiment = load()
    assert experiment.plan.data.source.path == ""
    assert experiment.simulation.arms == ("federated", "local", "pooled")


def test_an_override_wins_over_the_defaults() -> None:
    """Numbers, choices of a group and lists are given as key=value."""
    experiment = load(["model=densenet121", "train.lr=1e-4", "data.source.modalities=[FLAIR,T1w]"])
    assert experiment.plan.model == DenseNet121()
    assert experiment.plan.train.lr == 1e-4
    assert experiment.plan.data.source.modalities == ("FLAIR", "T1w")


@pytest.mark.parametrize(
    "chosen",
    [
        ("experiment=smoke", "strategy=fedbn"),
        ("experiment=lgg_tumour", "model=unet", "target=regression"),
        ("experiment=age", "strategy=fedprox", "harmonize=[nyul,coral]", "model=cnn3d"),
        ("partition=quantity", "harmonize=nyul", 'target="classification"'),
    ],
    ids=lambda chosen: chosen[0],
)
def test_settings_are_those_that_hydra_puts_together(chosen: tuple[str, ...]) -> None:
    """Files are put together once for many settings; Hydra alone does it for each anew."""
    bare = [text.replace('"', "") for text in chosen]
    values = ["rounds.n_rounds=3", "data.prepare.shape=[8,8,8]", "name=of-${seed}", "~partition"]
    load(["experiment=smoke"])  # gives Hydra the defaults of dataclasses
    with initialize_config_module("fedmri.configs", version_base="1.3"):
        whole = compose("config", overrides=[*values, *bare])
    assert _composed([*values, *chosen]) == OmegaConf.to_container(whole, resolve=True)


def test_an_override_wins_over_the_file(tmp_path: Path) -> None:
    """--config gives many settings, the command line corrects one."""
    file = tmp_path / "mine.yaml"
    file.write_text("model: unet\nseed: 5\ntrain:\n  lr: 0.5\n  batch_size: 2\n")
    experiment = load(["train.lr=0.25"], file)
    assert experiment.plan.model == UNet(width=8)
    assert experiment.plan.seed == 5
    assert experiment.plan.train.lr == 0.25
    assert experiment.plan.train.batch_size == 2


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("train.learning_rate=1", "train.lr"),
        ("train.epochs=1", "train.local_epochs"),
        ("n_rounds=3", "rounds.n_rounds"),
        ("data.path=x", "data.source.path"),
        ("train.optim=sgd", "train.optimizer"),
        ("privacy.eps=1", "privacy.max_epsilon"),
        ("simulation.seeds=3", "simulation.n_seeds"),
        ("train.ls=1", "train.lr"),
        ("lr=1e-4", "train.lr"),
        ("simulation.worker=2", "simulation.workers"),
        ("modle=unet", "model"),
        ("model=densenet12", "model=densenet121"),
        ("strategy=fedprocks", "strategy=fedprox"),
        ("partition.aplha=1", "partition.alpha"),
        ("+train.lr_=1", "train.lr"),
    ],
)
def test_a_mistyped_key_is_answered_with_the_nearest(typed: str, nearest: str) -> None:
    """Hydra's own advice (append with +) would be wrong: nothing may be appended."""
    with pytest.raises(ConfigError, match=rf"nearest is {nearest}.*\[C02\]"):
        load([typed])


@pytest.mark.parametrize("typed", ["train.colour=1", "data.prepare.banana=1", "rounds.patience=3"])
def test_a_key_that_is_near_to_none_gets_no_guess(typed: str) -> None:
    """A wrong guess sends its reader astray: the section's own settings are listed instead."""
    section = typed.rpartition(".")[0]
    with pytest.raises(ConfigError, match=rf"known one of {section}: \w+, .*\[C02\]") as caught:
        load([typed])
    assert "nearest" not in str(caught.value)


def test_a_mistyped_key_in_a_file_is_found(tmp_path: Path) -> None:
    """A YAML file is held to the same keys as the command line."""
    file = tmp_path / "mine.yaml"
    file.write_text("train:\n  batchsize: 2\n")
    with pytest.raises(ConfigError, match=r"train.batchsize.*nearest is train.batch_size"):
        load([], file)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("train.lr=-1", "train.lr"),
        ("train.lr=fast", "train.lr"),
        ("train.optimizer=adamm", "train.optimizer"),
        ("data.split.val=0.9", "data.split|split.val"),
        ("rounds.n_rounds=1.5", "rounds.n_rounds"),
        ("train.lr=[", "settings in Hydra's grammar"),
    ],
)
def test_a_value_that_cannot_be_taken_names_its_setting(typed: str, said: str) -> None:
    """The message says which setting, what was found and what is taken."""
    with pytest.raises(ConfigError, match=rf"{said}.*\[C01\]"):
        load([typed])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("rounds.n_rounds=abc", "found 'abc', want a whole number. To fix: set rounds.n_rounds to"),
        ("train.lr=fast", "want a number"),
        (
            "target.kind=xx",
            "want one of classification, gaussian_regression, multi_label, reconstruction",
        ),
        ("train=3", "found 3, want a section of settings"),
        ("secagg.is_on=perhaps", "want true or false"),
        ("data.prepare.shape=[1,2]", "want a value"),
        ("data.source.modalities=FLAIR", "found 'FLAIR', want a list, such as"),
        ("simulation.arms=[bananas]", "want one of federated, local, pooled"),
    ],
)
def test_what_is_wanted_is_said_in_plain_words(typed: str, said: str) -> None:
    """The words of a library ("Input should be a valid integer") are not ours."""
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        load([typed])
    assert "Input should" not in str(caught.value)


def test_several_values_are_no_sweep() -> None:
    """Hydra's advice, --multirun, is no option here: the message says what can be done."""
    with pytest.raises(
        ConfigError, match=r"train.lr.*one value.*for each value.*\[C01\]"
    ) as caught:
        load(["train.lr=1,2"])
    assert "multirun" not in str(caught.value)


def test_an_override_without_a_value_is_refused() -> None:
    """`fedmri simulate train.lr` is most likely a forgotten value."""
    with pytest.raises(ConfigError, match=r"write train.lr=VALUE.*\[C02\]"):
        load(["train.lr"])


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    """Broken YAML is one error with the file's name."""
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"broken.yaml.*\[C04\]"):
        load([], file)


def test_a_resolved_configuration_reads_back_the_same(tmp_path: Path) -> None:
    """What a run folder holds gives the experiment that was run, also as --config."""
    experiment = load(["strategy=fedprox", "strategy.mu=0.3", "partition=dirichlet"])
    file = tmp_path / "config.yaml"
    file.write_text(as_yaml(experiment))
    assert load_resolved(file) == experiment


def test_a_plan_travels_as_json() -> None:
    """A plan's JSON gives the same plan and the same fingerprint."""
    plan = load(["model=unet", "target.kind=segmentation", "target.classes=[lesion]"]).plan
    assert from_json(to_json(plan)) == plan


@pytest.mark.parametrize("group", sorted(groups()))
def test_every_shipped_choice_loads(group: str) -> None:
    """A file in configs/ that no longer fits the settings would only be found by its user."""
    plain = ["train.optimizer=sgd", "train.momentum=0", "train.clip_grad_norm=0"]
    whole = ["experiment=smoke"]  # one answer an image
    for name in groups()[group]:
        is_of_embeddings = group == "harmonize" or name == "moon"
        more = plain if name == "scaffold" else whole if is_of_embeddings else []
        if group == "model" and Need.COVARIATES in needs_of(MODELS.load(name)):
            more = ["data.source.covariates=[age:50/20,sex:F|M]"]
        if group == "model" and Need.VISITS in needs_of(MODELS.load(name)):
            kind = ["target=classification", "target.name=a", "target.classes=[b,c]"]
            more = [*kind, "data.source.visits=2", "data.prepare.shape=[32,32,32]"]
        if name == "fedadamw":
            more = ["train.is_optimizer_kept=true"]
        if group == "target":  # what it is about has no default
            more = [
                f"target.{key}={json.dumps(value)}"
                for key, value in TASKS.load(name).example.items()
            ]
        assert load([f"{group}={name}", *more])


@pytest.mark.parametrize("name", groups()["experiment"])
def test_the_network_of_every_shipped_experiment_fits_its_images(name: str) -> None:
    """Its sides are known before any scan is read, resampled or cropped."""
    plan = load([f"experiment={name}"]).plan
    assert all(plan.shape)
    build_network(plan.model, **plan.network)


@pytest.mark.parametrize(
    ("prepare", "shape"),
    [
        (("dimension=2d", "size=[64,48]"), (64, 48)),
        (("dimension=2d", "shape=[0,64,48]"), (64, 48)),
        (("dimension=2d", "shape=[32,64,48]"), (32, 64)),
        (("dimension=2d", "shape=[32,64,48]", "slice_axis=0"), (64, 48)),
        (("dimension=2d", "size=[64,48]", "shape=[0,32,0]"), (32, 48)),
        (("dimension=3d", "size=[64,48,16]", "shape=[0,32,0]"), (64, 32, 16)),
        (("dimension=3d", "size=[0,48,0]"), (0, 48, 0)),
        (("dimension=2d",), (0, 0)),
    ],
)
def test_the_shape_of_an_example_is_known_from_the_settings(
    prepare: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    """What is cropped has that size, what is resampled its own, and the rest the data decide."""
    base = ["experiment=tumour_kind", "data.prepare.size=[]", "data.prepare.shape=[0,0,0]"]
    plan = load([*base, *(f"data.prepare.{setting}" for setting in prepare)]).plan
    assert plan.shape == shape


def test_every_key_of_the_settings_is_known() -> None:
    """Nested settings are found by their dotted name, whole nodes too."""
    keys = set(setting_names())
    assert {"train.lr", "data.prepare.spacing_mm", "partition.alpha", "train", "seed"} <= keys
    assert "plan.train.lr" not in keys


def test_a_dictionary_with_an_unknown_field_is_refused() -> None:
    """A run folder's config.yaml of another version is not silently half read."""
    with pytest.raises(ConfigError, match=r"train.momentun.*nearest is train.momentum"):
        experiment_of({"target": {"kind": "regression", "name": "age"}, "train": {"momentun": 1}})
