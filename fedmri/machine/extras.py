"""Packages that few need: what asks for one that is absent says how to install it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from fedmri.errors import ConfigError


def require_packages(extra: str, modules: Sequence[str], what: str) -> None:
    """Import the modules of an extra.

    Args:
        extra: Name of the extra in the packaging.
        modules: What must be there.
        what: What needs them, for the message.

    Raises:
        ConfigError: One is not installed (C05).
    """
    for name in modules:
        try:
            import_module(name)
        except ImportError as error:
            fix = f"pip install 'fedmri[{extra}]'"
            found, want = f"no {name}", f"the packages of the extra {extra}"
            raise ConfigError("C05", what, found=found, want=want, fix=fix) from error
