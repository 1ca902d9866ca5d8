"""What the federation costs beyond training, as ratios measured side by side in one run.

    python benchmarks/speed/rounds.py            everything (about 20 minutes on 2 cores)
    python benchmarks/speed/rounds.py overhead   over a bare torch loop, flwr's FedAvg, its Ray
    python benchmarks/speed/rounds.py memory     peak memory by sites and rounds
    python benchmarks/speed/rounds.py workers    two workers over one
    python benchmarks/speed/rounds.py secure     rounds with secure aggregation over rounds without

Every variant trains the same network on the same batches with the same number of steps: about 0.2 s
at each of 5 sites in each round. Variants take turns, each in a new process; medians are printed.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg

from fedmri.arm import Arm
from fedmri.clients.app import app as client_app
from fedmri.config import load
from fedmri.data.batches.examples import open_site
from fedmri.data.batches.site_data import Split
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import write_site
from fedmri.data.scans import Scan
from fedmri.models.build import build_network, n_parameters
from fedmri.models.weights import load_weights, weights
from fedmri.plan import Plan, to_json
from fedmri.secagg.settings import SecAggConfig
from fedmri.server.rounds.loop import Rounds
from fedmri.server.rounds.run import Run
from fedmri.simulation.arms.running import simulated_roll
from fedmri.simulation.engines.flower import Node
from fedmri.simulation.engines.in_process import InProcessGrid
from fedmri.simulation.engines.pool import PooledGrid, ProcessEngine

SIZES = {"0.06 M": ("cnn3d", 6), "10 M": ("cnn3d", 94), "60 M": ("cnn3d", 230)}
"""Parameters: network and width."""
SECONDS = 0.2
N_REPEATS = int(os.environ.get("REPEATS", "5"))
N_ROUNDS = int(os.environ.get("ROUNDS", "20"))


@dataclass(frozen=True)
class Bench:
    """A plan and the prepared files of its sites."""

    plan: Plan
    files: dict[str, Path]

    def nodes(self, folder: Path) -> list[Node]:
        """Return the simulated sites."""
        return [
            Node(s, {"site": s, "prepared": json.dumps([str(f)]), "folder": str(folder / s)})
            for s, f in self.files.items()
        ]


def make_bench(folder: Path, size: str, n_sites: int, n_rounds: int) -> Bench:
    """Write sites of two random volumes each and calibrate the steps of a round."""
    name, width = SIZES[size]
    settings = [
        *("experiment=smoke", f"model={name}", f"model.width={width}", "train.optimizer=sgd"),
        *("data.prepare.shape=[16,16,16]", "train.batch_size=2", "train.momentum=0"),
        *(f"rounds.n_rounds={n_rounds}", "rounds.evaluate_every=0", "train.lr=0.001"),
        *("train.clip_grad_norm=0", f"rounds.checkpoint_every={n_rounds or 1}"),
    ]
    plan = load(settings).plan
    files = {f"site{i:02d}": _write_site(folder, plan, f"site{i:02d}") for i in range(n_sites)}
    bench = Bench(plan, files)
    n_steps = max(1, round(SECONDS / _step_seconds(bench)))
    return replace(bench, plan=replace(plan, train=replace(plan.train, local_steps=n_steps)))


def _write_site(folder: Path, plan: Plan, site: str) -> Path:
    draws = np.random.default_rng(int(site[-2:]))
    scans = []
    for number in range(2):
        path = folder / "scans" / f"{site}-{number}.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        volume = draws.normal(100, 20, (16, 16, 16)).astype(np.float32)
        nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
        label = ("mass", "spots")[number]
        scans.append(Scan(site, f"{site}p{number}", "", {"T1w": path}, {}, {"lesion": label}))
    splits: dict[str, Split] = {scan.subject: "train" for scan in scans}
    prepared = prepare_scans(scans, plan.target, plan.data, splits, folder / "cache")
    write_site(folder / "prepared" / f"{site}.json", prepared)
    return folder / "prepared" / f"{site}.json"


def _network(plan: Plan) -> torch.nn.Module:
    return build_network(plan.model, **plan.network)


def _step_seconds(bench: Bench) -> float:
    plan = replace(bench.plan, train=replace(bench.plan.train, local_steps=3))
    short = replace(plan, rounds=replace(plan.rounds, n_rounds=1))
    one = replace(bench, plan=short, files=dict(list(bench.files.items())[:1]))
    bare(one, Path())
    started = time.perf_counter()
    bare(one, Path())
    return (time.perf_counter() - started) / 3


def bare(bench: Bench, _: Path) -> None:
    """Train and average in a plain torch loop: no Flower, no records, no files."""
    plan = bench.plan
    torch.set_num_threads(plan.train.n_threads)
    network, task = _network(plan).train(), plan.target
    data = [open_site([path], plan.target, plan.data) for path in bench.files.values()]
    model = {name: value.clone() for name, value in weights(network).items()}
    total = {name: torch.empty_like(value) for name, value in model.items()}
    for round_index in range(plan.rounds.n_rounds):
        for index, site in enumerate(data):
            load_weights(network, model)
            optimizer = torch.optim.SGD(network.parameters(), plan.train.lr, weight_decay=1e-4)
            for step in range(plan.train.local_steps):
                for batch in site.train_batches(
                    batch_size=plan.train.batch_size, seed=round_index + step
                ):
                    optimizer.zero_grad()
                    torch.autograd.backward(task.mean_loss(network(batch.image), batch.target))
                    optimizer.step()
            for name, value in weights(network).items():
                if index == 0:
                    torch.mul(value, 2.0, out=total[name])
                else:
                    total[name].add_(value, alpha=2.0)
        for value in total.values():
            value.div_(2.0 * len(data))
        model, total = total, model


def engine(bench: Bench, folder: Path) -> None:
    """Run the ServerApp's rounds over the in-process engine."""
    config: dict[str, str | int] = {"plan": to_json(bench.plan)}
    grid = InProcessGrid(client_app, bench.nodes(folder), config)
    run = Run(bench.plan, Arm("federated"), (), tuple(list(bench.files)[:1]), folder)
    Rounds(run, grid, lambda record: None).go()


def engine_with_checkpoints(bench: Bench, folder: Path) -> None:
    """The same, with a checkpoint on disk after every round."""
    rounds = replace(bench.plan.rounds, checkpoint_every=1)
    engine(replace(bench, plan=replace(bench.plan, rounds=rounds)), folder)


def engine_with_secure_sums(bench: Bench, folder: Path) -> None:
    """The same, with updates that are masked: four exchanges a round, all parties on this core."""
    plan = replace(bench.plan, secagg=SecAggConfig(is_on=True))
    roll = simulated_roll("federated", plan, list(bench.files))
    config: dict[str, str | int] = {"plan": to_json(plan), "roll": roll.to_json()}
    grid = InProcessGrid(client_app, bench.nodes(folder), config)
    run = Run(plan, Arm("federated"), (), tuple(list(bench.files)[:1]), folder, roll=roll)
    Rounds(run, grid, lambda record: None).go()


def flower_fedavg(bench: Bench, folder: Path) -> None:
    """Run flwr's own FedAvg and its loop over the in-process engine."""
    grid = InProcessGrid(_flower_client(), bench.nodes(folder), {"plan": to_json(bench.plan)})
    _flower_rounds(bench, grid)


def flower_ray(bench: Bench, folder: Path) -> None:
    """Run flwr's own FedAvg over flwr's own Ray engine."""
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    server, nodes = ServerApp(), bench.nodes(folder)

    @server.main()
    def main(grid: object, context: Context) -> None:
        _flower_rounds(bench, grid)

    run_simulation(
        server,
        _flower_client([node.config for node in nodes], to_json(bench.plan)),
        len(nodes),
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


def _flower_rounds(bench: Bench, grid: object) -> None:
    strategy = FlowerFedAvg(fraction_evaluate=0, weighted_by_key="n_examples")
    initial = ArrayRecord({n: v.clone() for n, v in weights(_network(bench.plan)).items()})
    strategy.start(grid, initial, num_rounds=bench.plan.rounds.n_rounds)  # type: ignore[arg-type]


def _flower_client(configs: list[dict[str, str]] | None = None, plan: str = "") -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        from fedmri.clients.app import site_of
        from fedmri.wire import TrainOrder, unpack

        if configs is not None:  # a run's own settings cannot be set from here
            given: UserConfig = dict(configs[int(context.node_config["partition-id"])])
            run, node, state = context.run_id, context.node_id, context.state
            context = Context(run, node, given, state, {"plan": plan})
        round_index = message.content.config_records["config"]["server-round"]
        order = TrainOrder(int(str(round_index)), unpack(message.content.array_records["arrays"]))
        update = site_of(context).train(order)
        arrays = ArrayRecord({name: value.clone() for name, value in update.weights.items()})
        metrics = MetricRecord({"n_examples": update.n_examples})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


def timed(work: Callable[[Bench, Path], None], bench: Bench) -> tuple[float, float]:
    """Return wall and CPU seconds of a run, in this process and its children."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu, wall = time.process_time(), time.perf_counter()
        work(bench, Path(folder))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    children = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu + children


def timed_apart(work: Callable[[Bench, Path], None], bench: Bench) -> tuple[float, float]:
    """Return the same of a new process after a round: one that trained the other way is faster."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_timed_warm, (work, bench))


def _timed_warm(work: Callable[[Bench, Path], None], bench: Bench) -> tuple[float, float]:
    timed(work, replace(bench, plan=_one_round(bench.plan)))
    return timed(work, bench)


def overhead(folder: Path) -> None:
    """Print the cost of engines over the bare loop, for three sizes of model."""
    works = [bare, engine, engine_with_checkpoints, flower_fedavg]
    if _has_ray():
        works.append(flower_ray)
    print(f"medians of {N_REPEATS} runs, 5 sites x {N_ROUNDS} rounds; ratios to the bare loop")
    for size in SIZES:
        bench = make_bench(folder / size.replace(" ", ""), size, 5, N_ROUNDS)
        count = n_parameters(_network(bench.plan))
        print(f"\n{size}: {count:,} parameters, {bench.plan.train.local_steps} steps a round")
        times: dict[str, list[tuple[float, float]]] = {work.__name__: [] for work in works}
        for _ in range(N_REPEATS):
            for work in works:
                times[work.__name__].append(timed_apart(work, bench))
        print_ratios(times)


def secure(folder: Path) -> None:
    """Print the cost of secure sums over updates in clear, for two sizes of model."""
    for size in ("0.06 M", "10 M"):
        bench = make_bench(folder / size.replace(" ", ""), size, 5, N_ROUNDS)
        count = n_parameters(_network(bench.plan))
        print(f"\n{size}: {count:,} parameters, {bench.plan.train.local_steps} steps a round")
        times: dict[str, list[tuple[float, float]]] = {}
        for _ in range(N_REPEATS):
            for work in (bare, engine, engine_with_secure_sums):
                times.setdefault(work.__name__, []).append(timed_apart(work, bench))
        print_ratios(times)


def print_ratios(times: dict[str, list[tuple[float, float]]]) -> None:
    """Print medians over the first, the bare loop."""
    base = times["bare"]
    for name, measured in times.items():
        wall = statistics.median(m[0] / b[0] for m, b in zip(measured, base, strict=True))
        cpu = statistics.median(m[1] / b[1] for m, b in zip(measured, base, strict=True))
        seconds = statistics.median(m[0] for m in measured)
        print(f"  {name:<26} wall {wall:5.2f}   CPU {cpu:5.2f}   ({seconds:.1f} s)")


def _one_round(plan: Plan) -> Plan:
    return replace(plan, rounds=replace(plan.rounds, n_rounds=1))


def memory(folder: Path) -> None:
    """Print peak memory by sites and rounds; each is measured in a process of its own."""
    size = "60 M"
    name, width = SIZES[size]
    model_mb = n_parameters(_network(make_bench(folder / "m", size, 1, 1).plan)) * 4 / 2**20
    print(f"\npeak resident MB, {size} ({name}, width {width}; one model is {model_mb:.0f} MB)")
    for label, n_sites, n_rounds in [
        ("what one site needs to train", 1, 0),
        ("5 sites, 3 rounds", 5, 3),
        ("20 sites, 3 rounds", 20, 3),
        ("50 sites, 3 rounds", 50, 3),
    ]:
        print(f"  {label:<30} {_peak_mb(size, n_sites, n_rounds):8.0f}")
    print("peak resident MB, 0.06 M")
    for label, n_sites, n_rounds in [
        ("5 sites, 10 rounds", 5, 10),
        ("5 sites, 100 rounds", 5, 100),
    ]:
        print(f"  {label:<30} {_peak_mb('0.06 M', n_sites, n_rounds):8.0f}")


def _peak_mb(size: str, n_sites: int, n_rounds: int) -> float:
    command = [sys.executable, __file__, "peak", size, str(n_sites), str(n_rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def peak(size: str, n_sites: int, n_rounds: int) -> None:
    """Run and print this process's peak memory; no rounds is one site's training alone."""
    global SECONDS  # memory does not depend on the number of steps
    SECONDS = 0.0
    with tempfile.TemporaryDirectory() as folder:
        bench = make_bench(Path(folder), size, n_sites, n_rounds)
        if n_rounds:
            engine(bench, Path(folder) / "run")
    # not ru_maxrss, which a new program takes over from the one that started it
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def workers(folder: Path) -> None:
    """Print the wall time of two workers over one, on the small model."""
    bench = make_bench(folder / "workers", "0.06 M", 6, N_ROUNDS)
    pools = {n: ProcessEngine(n, "fedmri.clients.app:app", folder / "log.txt") for n in (1, 2)}
    ratios = []

    def run(n_workers: int) -> Callable[[Bench, Path], None]:
        def work(bench: Bench, out: Path) -> None:
            grid = PooledGrid(pools[n_workers], bench.nodes(out), {"plan": to_json(bench.plan)})
            one = Run(bench.plan, Arm("federated"), (), tuple(list(bench.files)[:1]), out)
            Rounds(one, grid, lambda record: None).go()

        return work

    for n_workers in (1, 2):
        timed(run(n_workers), replace(bench, plan=_one_round(bench.plan)))
    for _ in range(N_REPEATS):
        one, two, here = (timed(work, bench)[0] for work in (run(1), run(2), engine))
        ratios.append((two / one, two / here))
    for pool in pools.values():
        pool.close()
    print(f"\nworkers=2 over one worker process:  {statistics.median(r[0] for r in ratios):.2f}")
    print(f"workers=2 over workers=1 (no process): {statistics.median(r[1] for r in ratios):.2f}")


def _has_ray() -> bool:
    try:
        import ray  # noqa: F401  # only whether it is there
    except ImportError:
        print("flwr's Ray engine is left out: pip install 'fedmri[ray]'")
        return False
    return True


def main() -> None:
    """Run what is asked for."""
    if sys.argv[1:2] == ["peak"]:
        peak(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    parts = {"overhead": overhead, "memory": memory, "workers": workers, "secure": secure}
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or list(parts):
            parts[name](Path(folder))


if __name__ == "__main__":
    main()
