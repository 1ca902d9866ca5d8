"""Run every benchmark, one after another: they would disturb each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

for script in ("rounds.py", "cache_epoch.py", "dp_sgd.py", "secagg.py", "combat.py"):
    print(f"== {script}", flush=True)
    subprocess.run([sys.executable, str(Path(__file__).parent / script)], check=True)
