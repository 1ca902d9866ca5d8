"""The page of all settings: key, what it takes, default and meaning, from their docstrings."""

from __future__ import annotations

from fedmri.clients.process.home import SiteConfig
from fedmri.config import CONFIGS, ROOT, Experiment
from fedmri.server.registry.home import ServerConfig
from fedmri.settings.words import REQUIRED, Section, sections

HEAD = """# Settings

This page is made from the source code: each setting, what it takes,
its default and its meaning. `fedmri plan explain KEY` prints the same words.

Settings of an experiment are written as `key=value` after a command, or in a YAML file for
`--config`. `fedmri simulate --dry-run` prints all of them with the values that would be used.
"""


def settings_page() -> str:
    """Return the page of all settings, in Markdown."""
    parts = [HEAD, "## An experiment\n", _groups()]
    parts += [
        _as_markdown(section, "the experiment") for section in sections(Experiment, root=ROOT)
    ]
    parts.append("## A site: `site.yaml`\n")
    parts += [_as_markdown(section, "the site") for section in sections(SiteConfig)]
    parts.append("## The server: `server.yaml`\n")
    parts += [_as_markdown(section, "the server") for section in sections(ServerConfig)]
    return "\n".join(parts)


def _groups() -> str:
    lines = ["Each of these names chooses a file of settings, as in `strategy=fedprox`:", ""]
    for folder in sorted(path for path in CONFIGS.iterdir() if any(path.glob("*.yaml"))):
        names = ", ".join(f"`{file.stem}`" for file in sorted(folder.glob("*.yaml")))
        lines.append(f"- `{folder.name}`: {names}")
    return "\n".join([*lines, ""])


def _as_markdown(section: Section, whole: str) -> str:
    title = f"`{section.key}`" if section.key else f"Settings of {whole} itself"
    rows = [
        f"### {title}",
        "",
        _plain(section.summary),
        "",
        "| setting | takes | default | meaning |",
    ]
    rows.append("| --- | --- | --- | --- |")
    for setting in section.settings:
        default = setting.default if setting.default == REQUIRED else f"`{setting.default}`"
        meaning = _plain(setting.meaning).replace("|", "\\|")
        if setting.values:
            meaning += f" One of {', '.join(f'`{value}`' for value in setting.values)}."
        rows.append(f"| `{setting.key}` | {setting.kind} | {default} | {meaning} |")
    return "\n".join([*rows, ""])


def _plain(text: str) -> str:
    """Return a docstring as Markdown: code is marked by one backtick there."""
    return text.replace("``", "`")
