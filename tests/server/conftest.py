"""A coordinator's folder with a run that was really trained, as far as a test wants it."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedmri.agreement.signed_plan import sign_plan
from fedmri.config import load
from fedmri.plan import Plan
from fedmri.server.registry.home import EnrolledSite, ServerHome
from fedmri.server.runs import RunFolder, new_run
from fedmri.simulation.study import Study, refuse_failed, run_study
from tests.conftest import TINY

Deploy = Callable[..., RunFolder]


@dataclass(frozen=True)
class Trained:
    """A federated run of two rounds, and its sites."""

    plan: Plan
    folder: Path
    sites: tuple[str, ...]


@pytest.fixture(scope="session")
def trained(hospitals: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return a run that a simulation of the same server and clients wrote."""
    paths = [f"data.source.path={hospitals}", f"simulation.cache={cache}"]
    experiment = load([*TINY, *paths, "simulation.arms=[federated]", "rounds.n_rounds=2"])
    folder = tmp_path_factory.mktemp("trained")
    study = Study(experiment.plan, experiment.partition, experiment.simulation, folder, "fedmri")
    refuse_failed(run_study(study, lambda _: None), folder)
    arm = folder / "arms" / "federated" / f"seed-{experiment.plan.seed}"
    sites = json.loads((folder / "prepared" / "sites.json").read_text())["sites"]
    return Trained(experiment.plan, arm, tuple(sorted(sites)))


@pytest.fixture
def coordinator(tmp_path: Path, trained: Trained) -> ServerHome:
    """Return the folder of a coordinator who enrolled the sites of the trained run."""
    home = ServerHome(tmp_path / "server")
    home.state.mkdir(parents=True)
    home.settings_file.write_text("names: [localhost]\n")
    home.write_sites(EnrolledSite(site, f"key {site}", "2026-01-02") for site in trained.sites)
    see(home, dict.fromkeys(trained.sites, True))
    return home


@pytest.fixture
def deploy(coordinator: ServerHome, trained: Trained) -> Deploy:
    """Return a function that puts the trained run among the coordinator's runs.

    It takes the run's name and how many of its records were written so far (all of them: the model
    too), and further fields of its note.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    signed = sign_plan(trained.plan, pem)

    def put(name: str, n_records: int | None = None, **note: object) -> RunFolder:
        run = new_run(coordinator.runs, signed, name, trained.sites)
        run.change(**({"status": "finished" if n_records is None else "running"} | note))
        lines = (trained.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        (run.path / "metrics.jsonl").write_text("".join(lines[:n_records]))
        if n_records is None:
            shutil.copyfile(trained.folder / "model.safetensors", run.path / "model.safetensors")
        return run

    return put


def see(home: ServerHome, online: dict[str, bool]) -> None:
    """Write who is there, as the server process does."""
    now = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    seen = {
        site: {"online": is_online, "last_seen": now, "node": number}
        for number, (site, is_online) in enumerate(online.items())
    }
    (home.state / "sites-seen.json").write_text(json.dumps(seen))
