"""The process that predicts: it can be ended in the middle, which a thread cannot.

    python -m fedmri.serve.worker MODEL

reads a line of JSON for each job from its input and writes one to its output.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from fedmri.errors import DataError, FedmriError

READY = "ready"
ENDED = "the process that predicts has ended; the next request has a new one"
START_S = 300.0
"""Longest time that a process may take to load the libraries and the model."""

Answer = dict[str, Any]


class Worker:
    """A process with the model in it, started when it is needed.

    Args:
        model: File of the model.
    """

    def __init__(self, model: Path) -> None:
        self._model = model
        self._process: subprocess.Popen[str] | None = None

    def answer(self, path: Path, folder: Path, time_s: float) -> Answer:
        """Return what the model makes of a path.

        Args:
            path: Scan, or folder of scans.
            folder: Where files may be written meanwhile.
            time_s: Longest time; the process is ended after it.

        Raises:
            DataError: It took longer (D89).
            RuntimeError: The process ended by itself.
        """
        process = self._process if self._process and self._process.poll() is None else None
        process = process or self._started()
        assert process.stdin is not None, "a pipe"
        try:
            process.stdin.write(json.dumps({"path": str(path), "folder": str(folder)}) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(ENDED) from None
        return self._read(process, time_s)

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _started(self) -> subprocess.Popen[str]:
        self.end()
        program = [sys.executable, "-m", "fedmri.serve.worker", str(self._model)]
        command = [sys.executable, "-m", "fedmri.machine.child", *program]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self._read(self._process, START_S)
        return self._process

    def _read(self, process: subprocess.Popen[str], time_s: float) -> Answer:
        assert process.stdout is not None, "a pipe"
        end = time.monotonic() + time_s
        if not select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            self.end()
            fix = "send a smaller scan, or start the service with a larger --time-s"
            found, want = f"no end after {time_s:g} s", "one within the limit"
            raise DataError("D89", "prediction", found=found, want=want, fix=fix)
        line = process.stdout.readline()
        if not line:
            self.end()
            raise RuntimeError(ENDED)
        answer: Answer = json.loads(line)
        return answer


def serve(model: Path, jobs: IO[str], answers: IO[str]) -> None:
    """Answer jobs until there are no more; one that fails ends nothing."""
    from fedmri.serve.answer import answer_of
    from fedmri.trained.model import TrainedModel

    opened = TrainedModel.open(model)
    opened.network  # noqa: B018  # loaded before the first job
    _say(answers, {READY: True})
    for line in jobs:
        job = json.loads(line)
        tempfile.tempdir = job["folder"]  # which is removed whatever happens here
        try:
            _say(answers, answer_of(opened, Path(job["path"]), Path(job["folder"])))
        except FedmriError as error:
            _say(answers, {"code": error.code, "reason": str(error)})


def _say(answers: IO[str], answer: Answer) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    serve(Path(sys.argv[1]), sys.stdin, own)
