"""Run every benchmark, one after another: they would disturb each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

for script in (
    *("speed/rounds.py", "speed/cache_epoch.py", "speed/dp_sgd.py", "speed/secagg.py"),
    "harmonization/combat.py",
):
    print(f"== {script}", flush=True)
    subprocess.run([sys.executable, str(Path(__file__).parent / script)], check=True)
