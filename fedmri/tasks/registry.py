"""All tasks by their kinds: the files of the folder ``kinds``, and installed ones."""

from __future__ import annotations

from fedmri.parts import Registry
from fedmri.tasks.task import Task

TASKS = Registry[Task]("target", "fedmri.tasks", ("kinds",), "fedmri.tasks", key="kind")
