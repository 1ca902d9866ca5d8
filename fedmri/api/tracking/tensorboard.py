"""TensorBoard: a file of events for each training. Look at it by ``tensorboard --logdir RUN``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from fedmri.api.tracking.tracked import Training
from fedmri.machine.file_names import file_name

FILE = "events.out.tfevents.0.fedmri"  # TensorBoard knows its files by the middle of the name


def write(folder: Path, name: str, trainings: Sequence[Training], settings: str) -> None:
    """Write a folder of events for each training, and the settings as a text."""
    shutil.rmtree(folder, ignore_errors=True)
    text = f"```yaml\n# {name}\n{settings}```"
    _write_events(folder / "settings", Training("settings", ()), text)
    for training in trainings:
        _write_events(folder / file_name(training.name), training)


def _write_events(folder: Path, training: Training, text: str = "") -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text.metadata import create_summary_metadata
    from tensorboard.summary.writer.record_writer import RecordWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    folder.mkdir(parents=True)
    now, values = time.time(), []
    for name, step, value in training.scalars:
        values.append((step, Summary.Value(tag=name, simple_value=value)))
    if text:
        shown = make_tensor_proto([text.encode()])
        meta = create_summary_metadata("settings", "")
        values.append((0, Summary.Value(tag="settings", tensor=shown, metadata=meta)))
    with (folder / FILE).open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for step, one in values:
            event = Event(wall_time=now, step=step, summary=Summary(value=[one]))
            writer.write(event.SerializeToString())
