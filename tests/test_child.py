"""A child that has no purpose without its parent does not outlive it."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "fedmri.machine.child", sys.executable, "-c",
    "import os, time; print(os.getpid(), flush=True); time.sleep(60)"])
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_child_ends_with_its_parent() -> None:
    """SIGKILL of the parent, which nobody can prepare for, leaves no orphan."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive
