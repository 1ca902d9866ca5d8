"""The same training over plain flwr: its SuperLink, SuperNodes, FedAvg and ``flwr run``.

What ``deployment.py start`` compares fedmri with. TLS and node authentication are on, as in fedmri;
a new process for each message and three seconds between looks are flwr's own defaults.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmri.plan import Plan, to_json
from fedmri.server.registry.home import ServerHome

BIN = Path(sys.executable).parent
APP = """
import json, time
from pathlib import Path
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from fedmri.clients.app import site_of
from fedmri.plan import from_json
from fedmri.assembly import assemble
from fedmri.wire import TrainOrder, unpack

client = ClientApp()
server = ServerApp()


@client.train()
def train(message, context):
    context.node_config = json.loads(Path(context.node_config["file"]).read_text())
    context.run_config = {"plan": Path(context.run_config["plan-file"]).read_text()}
    number = int(message.content["config"]["server-round"])
    update = site_of(context).train(TrainOrder(number, unpack(message.content["arrays"])))
    arrays = ArrayRecord({name: value.clone() for name, value in update.weights.items()})
    counted = {"n_examples": update.n_examples, "seconds": update.metrics["train_seconds"]}
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord(counted)})
    return Message(content, reply_to=message)


@server.main()
def main(grid, context):
    plan = from_json(Path(context.run_config["plan-file"]).read_text())
    log = Path(context.run_config["log-file"])
    model = assemble(plan).entries

    def note(text):
        with log.open("a") as file:
            file.write(json.dumps({"what": text, "time": time.time()}) + "\\n")

    class Noted(FedAvg):
        def aggregate_train(self, server_round, replies):
            out = super().aggregate_train(server_round, replies)
            note("round")
            return out

    note("start")
    strategy = Noted(
        fraction_evaluate=0, min_train_nodes=3, min_available_nodes=3,
        weighted_by_key="n_examples",
    )
    strategy.start(grid, ArrayRecord(model), num_rounds=plan.rounds.n_rounds)
    note("end")
"""
PROJECT = """[project]
name = "plain"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "plain_app:server"
clientapp = "plain_app:client"
[tool.flwr.app.config]
plan-file = ""
log-file = ""
"""


def run(
    folder: Path,
    home: ServerHome,
    plan: Plan,
    keys: Mapping[str, Path],
    nodes: Mapping[str, Mapping[str, str]],
) -> list[float]:
    """Run the plan over plain flwr; return seconds from the start of SuperLink to each mark.

    Args:
        folder: Where everything goes.
        home: Folder of a coordinator, for its certificates.
        plan: What is trained.
        keys: Private key of each site; the public one lies beside it as ``.pub``.
        nodes: What each site's app is told.
    """
    environment = _write_app(folder, home, plan)
    started = time.time()
    processes = [_superlink(home, folder, environment)]
    try:
        _register(keys, environment)
        for number, (site, config) in enumerate(nodes.items()):
            file = folder / f"{site}.json"
            file.write_text(json.dumps(config))
            processes.append(_supernode(home, keys[site], file, number, environment))
        return [mark - started for mark in _flwr_run(folder, environment)]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _write_app(folder: Path, home: ServerHome, plan: Plan) -> dict[str, str]:
    """Write the app and flwr's settings; return the environment of its commands."""
    app, flwr_home = folder / "plain", folder / "flwr"
    app.mkdir(parents=True)
    flwr_home.mkdir()
    (app / "plain_app.py").write_text(APP)
    (app / "pyproject.toml").write_text(PROJECT)
    (folder / "plan.json").write_text(to_json(plan))
    (flwr_home / "config.toml").write_text(
        '[superlink]\ndefault = "here"\n[superlink.here]\n'
        f'address = "127.0.0.1:{home.config.port}"\n'
        f'root-certificates = "{home.ca_cert}"\ninsecure = false\n'
    )
    return {**os.environ, "FLWR_HOME": str(flwr_home), "PATH": f"{BIN}:{os.environ['PATH']}"}


def _flwr_run(folder: Path, environment: Mapping[str, str]) -> list[float]:
    """Run the app and return the time of each mark that it wrote."""
    log = folder / "marks.jsonl"
    values = f'plan-file="{folder / "plan.json"}" log-file="{log}"'
    command = [str(BIN / "flwr"), "run", str(folder / "plain"), "--run-config", values]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    marks: list[dict[str, Any]] = []
    while not marks or marks[-1]["what"] != "end":
        time.sleep(0.2)
        lines = log.read_text().splitlines() if log.exists() else []
        marks = [json.loads(line) for line in lines]
    return [float(mark["time"]) for mark in marks]


def _superlink(
    home: ServerHome, folder: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    command = [
        *(str(BIN / "flower-superlink"), "--ssl-ca-certfile", str(home.ca_cert)),
        *("--ssl-certfile", str(home.tls_cert), "--ssl-keyfile", str(home.tls_key)),
        *("--enable-supernode-auth", "--host", "127.0.0.1", "--port", str(home.config.port)),
        *("--database", str(folder / "state.db"), "--disable-runtime-dependency-installation"),
    ]
    return _spawn(command, folder / "superlink.log", environment)


def _register(keys: Mapping[str, Path], environment: Mapping[str, str]) -> None:
    for site, key in keys.items():
        command = [str(BIN / "flwr"), "supernode", "register", f"{key}.pub", "--name", site]
        for _ in range(40):
            done = subprocess.run(command, env=dict(environment), capture_output=True, text=True)
            if not done.returncode and not re.search("error", done.stdout, re.IGNORECASE):
                break
            time.sleep(0.5)


def _supernode(
    home: ServerHome, key: Path, file: Path, number: int, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    own = {**environment, "FLWR_HOME": str(file.with_suffix(".flwr"))}
    command: Sequence[str] = [
        *(str(BIN / "flower-supernode"), "--superlink", f"127.0.0.1:{home.config.port}"),
        *("--root-certificates", str(home.ca_cert), "--auth-supernode-private-key", str(key)),
        *("--host", "127.0.0.1", "--port", str(19300 + number)),
        *("--node-config", f'file="{file}"'),
    ]
    return _spawn(list(command), file.with_suffix(".log"), own)


def _spawn(
    command: list[str], output: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    with output.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=dict(environment))
