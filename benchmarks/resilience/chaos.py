"""What happens to a run when one process dies or freezes, or a connection breaks, at any moment.

    [SILENT=site03] python benchmarks/resilience/chaos.py [N] [SEED] [VICTIM:ACTION ...]

Real processes over TLS on loopback: a coordinator and three sites, in two consortia side by side.
In each of N runs one victim is killed (SIGKILL), frozen (SIGSTOP, later SIGCONT) or cut off by a
proxy between a site and the server, or the server is ended (SIGTERM). What systemd would start
again is started again. A silent site never approves a plan. The final weights are compared with
those of a simulation of the same plan.
Prints a Markdown table.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import sys
import tempfile
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the tests break consortia by the same means

from fedmri.config import load  # noqa: E402  # after the path
from fedmri.data.synthetic.data_set import SyntheticConfig, generate  # noqa: E402
from fedmri.plan import Plan  # noqa: E402
from fedmri.simulation import demo  # noqa: E402
from fedmri.simulation.arms import running  # noqa: E402
from tests.e2e.breaking import Lane, Outcome, Scenario, go  # noqa: E402
from tests.latecomers import NEVER, Latecomers  # noqa: E402

SETTINGS = (
    "experiment=smoke",
    "data.prepare.shape=[16,16,16]",
    "data.prepare.spacing_mm=12",
    "model.width=4",
    "model.norm=batch",
    "rounds.n_rounds=3",
    "rounds.min_sites=3",
    "rounds.quorum=1.0",
    "rounds.timeout_s=120",
)
SILENT = os.environ.get("SILENT", "")
WITH_SILENT = ("rounds.min_sites=2", "rounds.quorum=0.6") if SILENT else ()
STRATEGIES = ("fedavg", "fedbn")
PROCESSES = ("server", "ServerApp", "SuperNode", "worker", "client")
KINDS = (
    *((victim, action) for victim in PROCESSES for action in ("kill", "stop")),
    ("server", "end"),
    *(("connection", action) for action in ("cut", "stall", "delay", "reset")),
)
N_LANES = 2


def scenarios(n: int, seed: int, only: list[str]) -> list[Scenario]:
    """Return what is done in each run; every kind has its turn before one has its second."""
    draw, kinds = random.Random(seed), [k for k in KINDS if not only or ":".join(k) in only]
    order = [kind for _ in range(-(-n // len(kinds))) for kind in draw.sample(kinds, len(kinds))]
    made = []
    for number, (victim, action) in enumerate(order[:n], 1):
        for_s = draw.uniform(1, 20) if action in ("kill", "end") else draw.uniform(5, 90)
        sites = [site for site in ("site01", "site02", "site03") if site != SILENT]
        site, at = draw.choice(sites), draw.uniform(0.05, 0.9)
        strategy = STRATEGIES[number % len(STRATEGIES)]
        made.append(Scenario(number, strategy, victim, action, site, at, for_s))
    return made


def row(scenario: Scenario, outcome: Outcome) -> str:
    """Return the line of the table."""
    who = scenario.victim
    if who not in ("server", "ServerApp"):
        who += f" of {scenario.site}"
    happened = "; ".join([*outcome.told, *(f"FAULT {text}" for text in outcome.faults)])
    cells = [scenario.number, scenario.strategy, who, scenario.what, f"{scenario.at:.0%}"]
    cells += [happened.replace("|", "/") or "went on", f"{outcome.seconds:.0f}"]
    cells += ["yes" if outcome.is_right else "NO"]
    return "| " + " | ".join(map(str, cells)) + " |"


def work(
    lane: Lane, todo: queue.Queue[Scenario], plans: dict[str, Plan], right: dict[str, str]
) -> None:
    """Make one run after another until none is left."""
    with lane.running(), suppress(queue.Empty):
        lane.warm_up(plans[STRATEGIES[0]], right[STRATEGIES[0]])
        while True:
            scenario = todo.get_nowait()
            outcome = go(lane, scenario, plans[scenario.strategy], right[scenario.strategy])
            print(row(scenario, outcome), flush=True)


def main() -> None:
    """Run the scenarios and print the table."""
    numbers = [int(text) for text in sys.argv[1:3]]
    n, seed = (*numbers, *(40, 0)[len(numbers) :])
    os.environ["OMP_NUM_THREADS"] = "1"
    folder = Path(tempfile.mkdtemp(prefix="fedmri-chaos-"))
    data = folder / "data"
    generate(data, SyntheticConfig(n_sites=3, n_subjects=6, spacing_mm=8), 0)
    plans = {
        s: load([*SETTINGS, *WITH_SILENT, f"strategy={s}", f"name={s}"]).plan for s in STRATEGIES
    }
    if SILENT:
        vars(running)["InProcessGrid"] = partial(Latecomers, {SILENT: NEVER})
    right = {s: demo.simulated(p, data, folder / s, folder / "cache") for s, p in plans.items()}
    todo: queue.Queue[Scenario] = queue.Queue()
    for scenario in scenarios(n, seed, sys.argv[3:]):
        todo.put(scenario)

    logging.basicConfig(format="%(message)s")
    logging.getLogger("chaos").setLevel(logging.INFO)
    logging.getLogger("chaos").info("In %s", folder)
    print("| run | strategy | victim | action | after | what happened | seconds | right bits |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    lanes = [Lane(folder / f"lane-{i}", data, SILENT) for i in range(N_LANES)]
    threads = [threading.Thread(target=work, args=(lane, todo, plans, right)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
