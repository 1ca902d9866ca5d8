"""Many light sites on one server of one machine: memory, time of a round, and what grows.

    python benchmarks/resilience/many_sites.py [N_SITES] [N_ROUNDS]

The server is real: its processes, TLS, Flower's SuperLink. The sites are those of light_sites.py:
none trains. Prints seconds a round, peak memory of the server's processes, and the size of each
file.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from light_sites import children, consortium, memory_mb, ssh

from fedmri.config import load
from fedmri.server.registry.enrolment import enroll, make_home, sign_for
from fedmri.server.registry.home import ServerHome
from fedmri.server.runs import OVER, RunFolder, new_run
from fedmri.server.transport.superlink import free_port

N_SITES = int(sys.argv[1]) if len(sys.argv) > 1 else 200
N_ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
SETTINGS = (
    *("experiment=smoke", "data.prepare.shape=[16,16,16]", "data.prepare.spacing_mm=12"),
    *("model.width=4", "rounds.timeout_s=600", f"rounds.min_sites={N_SITES}"),
    *("rounds.quorum=1.0", f"rounds.n_rounds={N_ROUNDS}"),
)


def main() -> None:
    """Run it and print what was measured."""
    with tempfile.TemporaryDirectory(prefix="fedmri-many-") as name:
        home = make_home(Path(name) / "server", ["127.0.0.1"], free_port())
        keys = {f"site{n:03d}": ec.generate_private_key(ec.SECP384R1()) for n in range(N_SITES)}
        for site, key in keys.items():
            enroll(home, site, ssh(key))
        run = new_run(home.runs, sign_for(home, load(SETTINGS).plan, tuple(keys)), "many", [*keys])
        with consortium(home, keys, settle_s=15) as pid:
            peaks = watch(run, pid)
        report(home, run, peaks)


def watch(run: RunFolder, pid: int) -> dict[str, int]:
    """Return the peak memory in MB of the server's processes, once the run is over."""
    peaks: dict[str, int] = {}
    while run.note.status not in OVER:
        for child, what in ((pid, "server"), *((c, "process of the run") for c in children(pid))):
            peaks[what] = max(peaks.get(what, 0), memory_mb(child))
        time.sleep(0.5)
    return peaks


def report(home: ServerHome, run: RunFolder, peaks: dict[str, int]) -> None:
    """Print what was measured."""
    print(f"{N_SITES} sites, {N_ROUNDS} rounds: {run.note.status} {run.note.message}")
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").open()]
    seconds = [one["seconds"] for one in records if one["kind"] == "round_total"]
    print("seconds a round:", *(f"{one:.1f}" for one in seconds))
    for what, mb in peaks.items():
        print(f"peak memory of the {what}: {mb} MB")
    sizes: Callable[[Path], int] = lambda path: path.stat().st_size  # noqa: E731  # used twice
    for path in (*sorted(run.path.glob("*")), *sorted(home.logs.glob("*")), home.database):
        if path.is_file():
            print(f"{path.name}: {sizes(path):,} bytes, {sizes(path) // N_ROUNDS:,} a round")
    print("checkpoints:", sum(map(sizes, (run.path / "checkpoints").glob("*"))), "bytes")


if __name__ == "__main__":
    main()
