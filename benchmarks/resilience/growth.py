"""What grows with the rounds of a run at the server: files, database, memory.

    python benchmarks/resilience/growth.py [N_ROUNDS] [N_SITES]

The server is real: its processes, TLS, Flower's SuperLink. The sites are those of light_sites.py,
and one more is enrolled that never comes. Rounds close early and take late updates, so that every
record is written. Of each thing the script prints its size after a third of the rounds and at the
end, and what that comes to after 10,000 rounds. The default takes a minute or two.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from light_sites import children, consortium, memory_mb, ssh

from fedmri.config import load
from fedmri.server.registry.enrolment import enroll, make_home, sign_for
from fedmri.server.registry.home import ServerHome
from fedmri.server.runs import OVER, RunFolder, new_run
from fedmri.server.transport.superlink import free_port

N_ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
N_SITES = int(sys.argv[2]) if len(sys.argv) > 2 else 3
N_LATER = 10_000
LOOK_S = 0.4
OF_THE_RUN = "MB of the run's process"
SETTINGS = (
    *("experiment=smoke", "data.prepare.shape=[16,16,16]", "data.prepare.spacing_mm=12"),
    *("model.width=4", "rounds.timeout_s=60", f"rounds.min_sites={N_SITES}"),
    *("rounds.quorum=0.5", "rounds.close_at=0.5", "rounds.late=added", "rounds.evaluate_every=5"),
    f"rounds.n_rounds={N_ROUNDS}",
)

Sizes = dict[str, float]


def main() -> None:
    """Run it and print what was measured."""
    with tempfile.TemporaryDirectory(prefix="fedmri-growth-") as name:
        home = make_home(Path(name) / "server", ["127.0.0.1"], free_port())
        keys = {f"site{n:03d}": ec.generate_private_key(ec.SECP384R1()) for n in range(N_SITES)}
        everybody = [*keys, "absent"]
        for site in everybody:
            enroll(home, site, ssh(keys.get(site) or ec.generate_private_key(ec.SECP384R1())))
        run = new_run(home.runs, sign_for(home, load(SETTINGS).plan, everybody), "long", everybody)
        with consortium(home, keys, settle_s=8, look_s=LOOK_S) as pid:
            began = time.monotonic()
            third, end = watch(home, run, pid)
            seconds = time.monotonic() - began
        print(f"{N_SITES} sites and one that is away, {N_ROUNDS} rounds in {seconds:.0f} s.")
        print(f"{run.note.status} {run.note.message}")
        report(third, end)


def watch(home: ServerHome, run: RunFolder, pid: int) -> tuple[Sizes, Sizes]:
    """Return what there is after a third of the rounds, and at the end of the run."""
    third: Sizes = {}
    end: Sizes = {}
    while run.note.status not in OVER:
        if run.n_checkpointed >= 1:
            found = sizes(home, run, pid)
            end = found if found[OF_THE_RUN] else end  # its process ends before the run is over
        if not third and run.n_checkpointed >= N_ROUNDS // 3:
            third = end
        time.sleep(0.5)
    return third, end


def sizes(home: ServerHome, run: RunFolder, pid: int) -> Sizes:
    """Return the round, the kilobytes of files by kind, the rows of tables, and the memory."""
    found = Counter[str](round=run.n_checkpointed)
    for folder in (run.path, home.logs, home.state):
        for path in sorted(folder.rglob("*")):
            with suppress(FileNotFoundError):  # one that was written beside another one
                if path.is_file():
                    found[_kind(home.folder, path)] += path.stat().st_size
    kilobytes = {name: size / 1e3 for name, size in found.items() if name != "round"}
    rows = dict(_rows(home.database))
    memory = {
        "MB of the server's process": memory_mb(pid, "VmRSS"),
        OF_THE_RUN: max(memory_mb(one, "VmRSS") for one in children(pid) or [pid]),
    }
    return {"round": found["round"], **kilobytes, **rows, **memory}


def _rows(path: Path) -> Iterator[tuple[str, float]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        for (table,) in database.execute("select name from sqlite_master where type='table'"):
            (n,) = database.execute(f"select count(*) from {table}").fetchone()
            yield f"rows of {table}", n


def _kind(folder: Path, path: Path) -> str:
    """Return the name of a file without the number of its round, or of the process at it."""
    name = path.relative_to(folder).as_posix()
    return re.sub(r"[0-9]+", "N", name)


def report(third: Sizes, end: Sizes) -> None:
    """Print each thing, what it grew by in a round, and what it comes to."""
    n_rounds = end.pop("round") - third.pop("round")
    print(f"{'kB, rows or MB':44} {'third':>10} {'end':>10} {'a round':>10} {N_LATER:>12,}")
    for name in sorted({*third, *end}):
        before, now = third.get(name, 0.0), end.get(name, 0.0)
        each = (now - before) / n_rounds
        later = now + each * (N_LATER - N_ROUNDS)
        print(f"{name:44} {before:10.1f} {now:10.1f} {each:10.3f} {later:12,.0f}")


if __name__ == "__main__":
    main()
