"""A party's own settings: one YAML file in, one frozen dataclass out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml  # type: ignore[import-untyped]  # it ships no types
from pydantic import ValidationError

from fedmri.errors import ConfigError, UsageError, told
from fedmri.settings.keys import checked_as, known_keys, refused_value, unknown_setting

Settings = TypeVar("Settings")


def read_settings(path: Path, kind: type[Settings]) -> Settings:
    """Return the settings of a YAML file; what it leaves out keeps its default.

    Raises:
        ConfigError: The file cannot be read (C04), names a setting that is not known (C02, with
            the nearest that is), or gives one a value that it cannot take (C01).
    """
    values = _read(path)
    try:
        _refuse_unknown(values, list(known_keys(kind)))
        return checked_as(kind).validate_python(values)
    except ValidationError as error:
        raise refused_value(error, f" of {path}", "") from None
    except ConfigError as error:
        error.add_note(f"in {path}")
        raise


def read_home(path: Path, kind: type[Settings], party: str, command: str) -> Settings:
    """Return the settings of a party's own folder.

    Args:
        path: The file of settings in it.
        kind: What they are.
        party: Whose folder it is, ``site`` or ``server``.
        command: Command of fedmri that makes such a folder.

    Raises:
        UsageError: There is no such file (U21).
        ConfigError: A setting cannot be used (C01, C02, C04).
    """
    if not path.exists():
        want, fix = f"a folder with {path.name}", f"make one with `fedmri {command} init DIR`"
        what, found = f"{party} folder {path.parent}", f"no {path.name}"
        raise UsageError("U21", what, found=found, want=want, fix=fix)
    return read_settings(path, kind)


def _read(path: Path) -> dict[str, Any]:
    fix = "correct the file, or make a new folder with `init` and compare"
    want = "a YAML file of settings"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        found = told(error)
        raise ConfigError("C04", f"settings {path}", found=found, want=want, fix=fix) from error
    if values is None:  # a file of comments alone
        return {}
    if not isinstance(values, dict):
        found = f"a {type(values).__name__}"
        raise ConfigError("C04", f"settings {path}", found=found, want=want, fix=fix)
    return _without_empty(values)


def _without_empty(values: dict[Any, Any]) -> dict[str, Any]:
    """Drop sections all of whose lines are comments: YAML reads them as null."""
    kept = {str(key): value for key, value in values.items() if value is not None}
    return {k: _without_empty(v) if isinstance(v, dict) else v for k, v in kept.items()}


def _refuse_unknown(values: Mapping[str, Any], known: Sequence[str], prefix: str = "") -> None:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if key not in known:
            raise unknown_setting(key, known)
        is_section = any(other.startswith(f"{key}.") for other in known)
        if is_section and isinstance(value, Mapping):
            _refuse_unknown(value, known, f"{key}.")
