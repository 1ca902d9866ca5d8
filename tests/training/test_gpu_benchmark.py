"""The benchmark for GPUs runs wherever it is started, so that it can be trusted on a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_part_has_a_number_for_every_network(tmp_path: Path) -> None:
    """Small and on the CPU: it prints tables, and writes the same numbers."""
    command = [sys.executable, "benchmarks/gpu.py", "--small", "--device", "cpu", "--json"]
    path = tmp_path / "found.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(path)], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(path.read_text())
    parts = [part for part in found.values() if isinstance(part, dict)]
    assert [len(part) for part in parts] == [3, 3, 3, 1]
    for name, numbers in (row for part in parts for row in part.items()):
        assert name in done.stdout
        assert len(numbers) >= 2
        assert all(number > 0 for number in numbers.values())
