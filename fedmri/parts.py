"""Parts by name: a file each in fedmri, and those of other installed distributions.

A part is a frozen dataclass, and its fields are its settings. A file of fedmri holds one public
class, and the part has the file's name. A distribution adds parts by entry points of a group such
as ``fedmri.strategies``; they are loaded only when a plan names them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from fedmri.errors import ConfigError, told
from fedmri.outside import OF_THIS_PROCESS, Origin, origin_of, refuse_other
from fedmri.settings.keys import checked_as, refused_value, unknown_setting

NAME, ORIGIN = "name", "origin"
"""Keys beside the settings of a part, where it is written down."""

OF_PARTS = frozenset({"C40", "C41"})
"""Codes of what is wrong with a part that is not fedmri's own."""

PartT = TypeVar("PartT")


@dataclass(frozen=True)
class Registry(Generic[PartT]):
    """All parts of one kind.

    Attributes:
        kind: Where the settings name it, such as ``strategy``.
        package: Room whose folders hold the files.
        folders: Those folders.
        group: Group of entry points.
        is_list: Whether a plan has several; then a setting's key has the part's name in it.
        key: Key of the part's name beside its settings.
    """

    kind: str
    package: str
    folders: tuple[str, ...]
    group: str
    is_list: bool = False
    key: str = NAME

    @cached_property
    def own(self) -> Mapping[str, str]:
        """Module of each part of fedmri, by name, in the order of folders and files."""
        room = Path(str(import_module(self.package).__file__)).parent
        files = (file for name in self.folders for file in sorted((room / name).glob("[a-z]*.py")))
        return {file.stem: f"{self.package}.{file.parent.name}.{file.stem}" for file in files}

    @cached_property
    def outside(self) -> Mapping[str, EntryPoint]:
        """Entry point of each part of another distribution, by name."""
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            if point.name in self.own or point.name in found:
                fix = "uninstall one of the distributions"
                what, want = f"{self.kind} {point.name}", "one part of a name"
                raise ConfigError("C40", what, found="two parts", want=want, fix=fix)
            found[point.name] = point
        return found

    @cached_property
    def held(self) -> dict[str, type[PartT]]:
        """Classes that this process alone has, as in a notebook, by name; see ``hold``."""
        return {}

    def hold(self, part: PartT) -> None:
        """Know the class of a part by its name from now on, in this process alone.

        Raises:
            ConfigError: Another part has the name, or it is no dataclass (C40).
        """
        name, kind = self.name_of(part), type(part)
        if self._is_installed(kind):
            return
        if name in (*self.own, *self.outside) or not is_dataclass(kind):
            fix = "give the class a name of its own, and make it a frozen dataclass"
            what, want = f"{self.kind} {name} of this process", "a dataclass with a new name"
            raise ConfigError("C40", what, found=f"{kind}", want=want, fix=fix)
        self.held[name] = kind

    def is_held(self, part: PartT) -> bool:
        """Whether no other process knows the class of a part."""
        return not self._is_installed(type(part))

    def _is_installed(self, kind: type) -> bool:
        own = f"{kind.__module__}:{kind.__qualname__}"
        is_outside = any(point.value == own for point in self.outside.values())
        return is_outside or kind.__module__.startswith(f"{self.package}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parts, fedmri's own first."""
        return (*self.own, *self.outside, *self.held)

    def load(self, name: str) -> type[PartT]:
        """Return the class of a part.

        Raises:
            ConfigError: There is none of the name (C01), or it cannot be loaded (C40).
        """
        if name in self.own:
            return _only_class(self.own[name])
        if name in self.held:
            return self.held[name]
        if name not in self.outside:
            want = f"one of {', '.join(self.names)}"
            what = self.kind if self.key == NAME else f"{self.kind}.{self.key}"
            fix = f"set {what} to one of them, or install the distribution that has it"
            what = f"setting {what}"
            raise ConfigError("C01", what, found=repr(name), want=want, fix=fix)
        return self._loaded(self.outside[name])

    def _loaded(self, point: EntryPoint) -> type[PartT]:
        found: object
        try:
            found = point.load()
        except (ImportError, AttributeError, SyntaxError) as error:
            found = told(error)
        if not (isinstance(found, type) and is_dataclass(found)):
            fix = f"put right {point.value}, or leave the part out"
            what, want = f"{self.kind} {point.name} of {point.value}", "a dataclass"
            raise ConfigError("C40", what, found=f"{found}", want=want, fix=fix)
        return found  # type: ignore[return-value]  # what it can do shows when it is used

    def name_of(self, part: PartT) -> str:
        """Return the name of a part; that of a class which is not installed is made of its own."""
        kind = type(part)
        if kind.__module__.startswith(f"{self.package}."):
            return kind.__module__.rpartition(".")[2]
        own = f"{kind.__module__}:{kind.__qualname__}"
        names = (point.name for point in self.outside.values() if point.value == own)
        return next(names, _snake(kind.__name__))

    def origin(self, name: str) -> Origin | None:
        """Return the distribution that a part comes from; None for one of fedmri's own."""
        if name in self.held:
            return OF_THIS_PROCESS
        return origin_of(self.outside[name]) if name in self.outside else None

    def as_dict(self, part: PartT) -> dict[str, Any]:
        """Return a part as plain values that ``made`` takes."""
        name = self.name_of(part)
        origin = self.origin(name)
        whence = {} if origin is None else {ORIGIN: asdict(origin)}
        return {self.key: name, **whence, **asdict(part)}  # type: ignore[call-overload]  # a dataclass

    def made(self, values: object) -> PartT:
        """Return the part of plain values or of a name, or the part itself.

        Raises:
            ConfigError: The name, a setting or a value cannot be taken (C01, C02), or the
                distribution here is not the one that the values name (C41).
        """
        if is_dataclass(values) and not isinstance(values, type):
            return values  # type: ignore[return-value]  # a part as it is
        given = {self.key: values} if isinstance(values, str) else self._section(values)
        settings: dict[str, Any] = dict(given)
        name = str(settings.pop(self.key, ""))
        whence = settings.pop(ORIGIN, None)
        if whence is not None:
            refuse_other(f"{self.kind} {name}", whence, self.origin(name))
        kind = self.load(name)
        self._refuse_unknown(name, kind, settings)
        try:
            return checked_as(kind).validate_python(settings)
        except ValidationError as error:
            raise refused_value(error, "", "", prefix=f"{self._key(name)}.") from None

    def _section(self, values: object) -> Mapping[str, Any]:
        if not isinstance(values, Mapping):
            want = "a name, or a section of settings with one"
            fix = f"set {self.kind} to one of {', '.join(self.names)}"
            what = f"setting {self.kind}"
            raise ConfigError("C01", what, found=repr(values), want=want, fix=fix)
        return values

    def settings(self, name: str) -> tuple[str, ...]:
        """Return the names of a part's settings."""
        return _settings(self.load(name))

    def _refuse_unknown(self, name: str, kind: type[PartT], settings: Mapping[str, Any]) -> None:
        where = self._key(name)
        known = [f"{where}.{key}" for key in (self.key, *_settings(kind))]
        for key in settings:
            if f"{where}.{key}" not in known:
                raise unknown_setting(f"{where}.{key}", known, f"; {self.kind} is {name}")

    def _key(self, name: str) -> str:
        """Return where the settings of a part stand."""
        return f"{self.kind}.{name}" if self.is_list else self.kind


def _settings(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.init)


def _only_class(module_name: str) -> type[Any]:
    """Return the one public class that a module defines."""
    module = import_module(module_name)
    found = [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module_name and not name.startswith("_")
    ]
    if len(found) != 1 or not is_dataclass(found[0]):
        names = ", ".join(one.__name__ for one in found) or "none"
        fix = "give each part a file of its own, and begin the names of other classes with _"
        want = "one public class, a dataclass"
        raise ConfigError("C40", f"file of part {module_name}", found=names, want=want, fix=fix)
    return found[0]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
