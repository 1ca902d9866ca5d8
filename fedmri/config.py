"""Hydra in, frozen dataclasses out: the only file that knows Hydra and OmegaConf.

YAML chooses, dataclasses define: nothing is instantiated by name, and no Hydra is left after
``load``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from hydra import compose, initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError  # type: ignore[import-untyped]  # OmegaConf lets it through

from fedmri.errors import ConfigError, told
from fedmri.models.registry import MODELS
from fedmri.parts import Registry
from fedmri.plan import Plan, StartConfig, to_dict
from fedmri.settings.keys import checked_as, known_keys, refused_value, unknown_setting
from fedmri.simulation.partition import PartitionConfig
from fedmri.simulation.protocol import PROTOCOLS
from fedmri.simulation.recipe import Recipe
from fedmri.simulation.settings import SimulationConfig
from fedmri.stages.registry import STAGES, by_name
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.registry import TASKS

CONFIGS = Path(str(files("fedmri.configs")))
ROOT = "plan"
"""Field of an experiment whose settings stand at the top, without its name."""
PARTS: Mapping[str, Registry[Any]] = {"target": TASKS, "model": MODELS, "strategy": STRATEGIES}
"""Sections that a part stands in, whose own settings they take."""
_OPEN = frozenset({*PARTS, STAGES.kind})
"""Sections whose settings are known once it is known which parts are chosen."""
QUOTES = " \"'"
ALL_PRINTED = "; --dry-run prints all settings"


@dataclass(frozen=True)
class Experiment:
    """A plan, how it is simulated, and what is tried of it."""

    plan: Plan
    partition: PartitionConfig
    simulation: SimulationConfig
    recipe: Recipe = field(default_factory=Recipe)


def load(overrides: Sequence[str] = (), file: Path | None = None) -> Experiment:
    """Return the experiment of the defaults, a YAML file and overrides, the later winning.

    Args:
        overrides: ``key=value`` in Hydra's grammar; ``group=name`` chooses a file of a group.
        file: YAML of the same keys.

    Raises:
        ConfigError: A key is not known (C02, with the nearest that is), a value cannot be taken
            (C01), settings contradict each other (C03), or the file cannot be read (C04).
    """
    texts = written_settings(overrides, file)
    for text in texts:
        refuse_unknown(text)
    values = _composed(texts)
    return experiment_of({**values, **_parts_of(values, texts)})


def written_settings(overrides: Sequence[str] = (), file: Path | None = None) -> list[str]:
    """Return what a file and overrides say, as ``key=value`` each; nothing is checked.

    Raises:
        ConfigError: The file cannot be read (C04), or stages are no list (C01).
    """
    written = [*(_overrides_of(file) if file else ()), *overrides]
    return [text for one in written for text in _each_stage(one)]


def _each_stage(text: str) -> Iterator[str]:
    """Yield a list of stages as one setting a stage: each may have settings of its own."""
    key, _, value = text.partition("=")
    if key.strip() == PROTOCOLS.kind:  # it may have settings of its own beside its name
        yield f"{PROTOCOLS.kind}.{PROTOCOLS.key}={value}"
        return
    if key.strip() != STAGES.kind or value.startswith("{"):
        yield text
        return
    if not (value.startswith("[") and value.endswith("]")):
        want, fix = "a list of stages", f"choose of {', '.join(STAGES.names)}, as in stages=[nyul]"
        raise ConfigError("C01", f"setting {key}", found=value or "nothing", want=want, fix=fix)
    for name in (part.strip(QUOTES) for part in value.strip("[]").split(",")):
        if name:
            yield f"{key}.{name}={{}}"


def _composed(texts: Sequence[str]) -> dict[str, Any]:
    """Return what Hydra puts together of the defaults and overrides."""
    names = tuple(tuple(registry.names) for registry in PARTS.values())
    return deepcopy(_composed_once(tuple(texts), names))


@cache
def _composed_once(texts: tuple[str, ...], names: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    # the arms of a study, and what is put together twice here, differ in few settings or in none
    files, values = _divided(texts)
    try:
        composed = deepcopy(_chosen(files, names))
        parsed = [_parsed(text) for text in values]
        # Hydra's own last step: to put the files together takes ten times as long as this
        ConfigLoaderImpl.validate_sweep_overrides_legal(parsed, RunMode.RUN, from_shell=False)
        ConfigLoaderImpl._apply_overrides_to_config(parsed, composed)
        found: Any = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _hydra_error(error, texts) from error
    return dict(found)


def _divided(texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what chooses files, and what sets values: first which parts there are."""
    choices, n_times = groups(), Counter(map(_key_of, texts))
    files, parts, values = [], [], []
    for text in texts:
        key, _, value = text.partition("=")
        name = value.strip('"')
        if key in PARTS and name in choices[key] and n_times[key] == 1:
            parts.append(f"++{key}.{PARTS[key].key}={quoted(name)}")  # all that its file has
        elif _key_of(text) in choices:
            files.append(_as_override(text))
        else:
            values.append(_as_override(text))
    return tuple(files), (*parts, *values)


@cache
def _chosen(texts: tuple[str, ...], names: tuple[tuple[str, ...], ...]) -> DictConfig:
    """Return what Hydra puts together of the files that texts choose."""
    _store_defaults(names)
    with initialize_config_module("fedmri.configs", version_base="1.3"):
        return compose("config", overrides=list(texts))


@cache
def _parsed(text: str) -> Override:
    """Return a setting as Hydra's grammar has it."""
    [parsed] = OverridesParser.create().parse_overrides([text])
    return parsed


def load_resolved(path: Path) -> Experiment:
    """Return the experiment that ``as_yaml`` wrote.

    Raises:
        ConfigError: The file cannot be read (C04).
    """
    return experiment_of(_read_yaml(path))


def experiment_of(values: Any) -> Experiment:
    """Return the experiment of nested dictionaries; raise ConfigError C01 or C02."""
    values = dict(values)
    beside = {name: values.pop(name, {}) for name in ("partition", "simulation", "recipe")}
    nested = {"plan": values, **beside}
    _refuse_unknown_fields(nested, Experiment, ())
    try:
        experiment = checked_as(Experiment).validate_python(nested)
    except ValidationError as error:
        raise refused_value(error, "", ALL_PRINTED, ROOT) from None
    return _with_start(experiment)


def _with_start(experiment: Experiment) -> Experiment:
    """Return the experiment with the hash of its weights in the plan, if a file is named."""
    file, plan = experiment.simulation.weights, experiment.plan
    if not file or plan.start.sha256:
        return experiment
    from fedmri.models.pretrained import file_sha256  # torch loads here

    start = StartConfig(file_sha256(Path(file).expanduser()))
    return replace(experiment, plan=replace(plan, start=start))


def changed(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """Return the experiment with other values by their dotted keys; a part is named by itself.

    Raises:
        ConfigError: A value cannot be taken (C01), or contradicts another (C03).
    """
    nested = _as_dict(experiment)
    for key, value in values.items():
        *sections, last = key.split(".")
        place = nested
        for section in sections:
            place = place[section]
        place[last] = {PARTS[key].key: value} if key in PARTS else value
    return experiment_of(nested)


def as_yaml(experiment: Experiment) -> str:
    """Return all settings as YAML that ``load_resolved`` and ``--config`` read."""
    text: str = OmegaConf.to_yaml(OmegaConf.create(_as_dict(experiment)))
    return text


def _as_dict(experiment: Experiment) -> dict[str, Any]:
    simulation = experiment.simulation
    compared = [STRATEGIES.as_dict(strategy) for strategy in simulation.strategies]
    values = to_dict(experiment.plan)
    values[STAGES.kind] = by_name(experiment.plan.stages)
    values |= {"partition": asdict(experiment.partition), "recipe": asdict(experiment.recipe)}
    protocol = PROTOCOLS.as_dict(PROTOCOLS.made(simulation.protocol))
    own = {"strategies": compared, "protocol": protocol}
    values |= {"simulation": {**asdict(simulation), **own}}
    plain: dict[str, Any] = json.loads(json.dumps(values))  # tuples become lists
    return plain


@cache
def _store_defaults(names: tuple[tuple[str, ...], ...]) -> None:
    """Give Hydra every field with its default, and the names of all parts as choices.

    A part's own defaults stand in its class alone.
    """
    experiment = Experiment(Plan(Regression("target")), PartitionConfig(), SimulationConfig())
    fields = {key: value for key, value in _as_dict(experiment).items() if key not in PARTS}
    store = ConfigStore.instance()
    store.store("fields", fields)
    for (section, registry), choices in zip(PARTS.items(), names, strict=True):
        for name in choices:
            store.store(name, {registry.key: name}, group=section)


def _parts_of(values: Mapping[str, Any], texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the sections of parts, without what YAML says for another part than the chosen one.

    The width of an experiment's own network is none for another network. What the user wrote stays,
    so that a setting that the part does not have is refused.
    """
    choosing = {key for s, of in PARTS.items() for key in (s, f"{s}.{of.key}")}
    written = {_key_of(text) for text in texts}
    if not choosing & written:
        return {section: values[section] for section in PARTS}
    own = _composed([text for text in texts if text.partition("=")[0].lstrip("+") not in choosing])
    found = {}
    for section, registry in PARTS.items():
        is_same = own[section][registry.key] == values[section][registry.key]
        found[section] = {
            key: value
            for key, value in values[section].items()
            if is_same or key == registry.key or f"{section}.{key}" in written
        }
    return found


def groups() -> dict[str, list[str]]:
    """Return the choices of each group: files of the shipped configuration, and parts."""
    found = {**_shipped()}
    found |= {section: sorted(registry.names) for section, registry in PARTS.items()}
    return {name: choices for name, choices in found.items() if choices}


@cache
def _shipped() -> dict[str, list[str]]:
    folders = sorted(path for path in CONFIGS.iterdir() if path.is_dir())
    return {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in folders}


@cache
def _known() -> tuple[str, ...]:
    return tuple(known_keys(Experiment, root=ROOT))


def setting_names() -> list[str]:
    """Return every setting by its dotted key, inner nodes and those of all parts among them."""
    own = {
        f"{section}.{key}": None
        for section, registry in PARTS.items()
        for name in registry.names
        for key in (registry.key, *registry.settings(name))
    }
    of_stages = [
        f"{STAGES.kind}.{name}.{key}" for name in STAGES.names for key in STAGES.settings(name)
    ]
    of_protocols = [
        f"{PROTOCOLS.kind}.{key}"
        for name in PROTOCOLS.names
        for key in (PROTOCOLS.key, *PROTOCOLS.settings(name))
    ]
    return [*_known(), *own, *of_stages, *dict.fromkeys(of_protocols)]


def _overrides_of(file: Path) -> Iterator[str]:
    yield from as_overrides(_read_yaml(file))


def as_overrides(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield nested settings as ``key=value``, by their dotted keys."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            yield from as_overrides(value, f"{key}.")
        elif value == {}:
            yield f"{key}={{}}"
        elif value is None:
            yield f"{key}=null"
        else:
            yield f"{key}={as_value(value)}"


def as_value(value: Any) -> str:
    """Return a value as the text of a setting that is read back as the same value.

    Args:
        value: A text, a number, or lists and mappings of them. JSON would double each backslash,
            and a pattern for digits would match nothing.
    """
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{quoted(str(k))}:{as_value(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _read_yaml(path: Path) -> dict[str, Any]:
    want = "a YAML file of settings"
    fix = "start from the output of `fedmri simulate --dry-run`"
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        found = told(error)
        what = f"configuration {path}"
        raise ConfigError("C04", what, found=found, want=want, fix=fix) from error
    if not isinstance(values, dict) or not values:
        found = f"a {type(values).__name__} of {len(values or ())}"
        raise ConfigError("C04", f"configuration {path}", found=found, want=want, fix=fix)
    return {str(key): value for key, value in values.items()}


def quoted(text: str) -> str:
    """Return a text as a value of a setting that is read back letter by letter.

    Hydra takes a backslash for one of its own before a quote, and ``${`` for the name of a setting.
    """
    plain = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", text)
    inner = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + (found[2] and r"\""), plain)
    return f'"{inner}"'


def _key_of(text: str) -> str:
    return text.partition("=")[0].lstrip("+~").strip()


def _as_override(text: str) -> str:
    # a whole group is chosen by its quoted name in YAML and by the bare one on the command line
    key, _, value = text.partition("=")
    if key in groups():
        return f"{key}={value.strip(chr(34))}"
    # the part that is chosen says which settings there are, once all is put together
    is_of_part = _is_open(key.lstrip("+")) and not key.startswith("~")
    return f"++{text.lstrip('+')}" if is_of_part else text


def _is_open(key: str) -> bool:
    return key.partition(".")[0] in _OPEN or key.startswith(f"{PROTOCOLS.kind}.")


def refuse_unknown(text: str) -> None:
    """Refuse a text that is no ``key=value``, or names what no setting or choice has (C02)."""
    _, separator, value = text.partition("=")
    key = _key_of(text)
    if not separator:
        fix = f"write {text}=VALUE" if key in setting_names() else "write key=value"
        raise ConfigError("C02", f"setting {text!r}", found="no =", want="key=value", fix=fix)
    choices = groups()
    if key in choices:
        names = tuple(name.strip(QUOTES) for name in value.strip(" []").split(","))
        for name in names:
            if name not in choices[key]:
                raise unknown_setting(
                    f"{key}={name}", [f"{key}={choice}" for choice in choices[key]], ALL_PRINTED
                )
        if "none" in names and len(names) > 1:
            fix, what = "leave none out of the list", f"the list {key}"
            raise ConfigError("C03", what, found=", ".join(names), want="none alone", fix=fix)
        return
    if not _is_open(key) and key not in _known():
        raise unknown_setting(key, [*setting_names(), *choices], ALL_PRINTED)


def _refuse_unknown_fields(values: Any, kind: type[Any], path: tuple[str, ...]) -> None:
    types = get_type_hints(kind)
    for name, value in dict(values).items():
        key = ".".join(part for part in (*path, str(name)) if part != "plan")
        if name not in types:
            raise unknown_setting(key, setting_names(), ALL_PRINTED)
        if is_dataclass(types[name]) and isinstance(value, Mapping):
            _refuse_unknown_fields(value, types[name], (*path, str(name)))


def _hydra_error(error: Exception, texts: Sequence[str]) -> ConfigError:
    if swept := [text for text in texts if _is_sweep(text)]:
        key, _, value = swept[0].partition("=")
        fix = f"write '{key}=[{value}]' for a list, or run the command once for each value"
        want = "one value, or a list in brackets"
        return ConfigError("C01", f"setting {key}", found=value, want=want, fix=fix)
    found = str(error).replace("\n", " ")
    fix = "quote the whole setting for the shell, and lists as 'key=[a,b]'"
    want = "settings in Hydra's grammar"
    return ConfigError("C01", f"settings {' '.join(texts)}", found=found, want=want, fix=fix)


def _is_sweep(text: str) -> bool:
    """Tell whether a setting has several values, which Hydra would run in turn."""
    try:
        return OverridesParser.create().parse_override(text).is_sweep_override()
    except HydraException:
        return False
