"""Sites that answer with what no site should: each is left out by name, the others go on."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run as FlowerRun

from fedmri.arm import Arm
from fedmri.clients.app import app
from fedmri.plan import Plan, to_json
from fedmri.server.rounds.loop import Rounds
from fedmri.server.rounds.run import Run
from fedmri.server.transport import asking
from fedmri.simulation.engines.flower import Node
from fedmri.simulation.engines.in_process import InProcessGrid
from fedmri.simulation.partition import PartitionConfig
from fedmri.simulation.sites import SiteSource, prepare_sites
from fedmri.wire import bundle, pack, unbundle, unpack
from fedmri.wire.grid import sent
from tests.e2e.conftest import plan_of

Mangle = Callable[[RecordDict], RecordDict]
HONEST = ("site01", "site03")
SOURCE = "site02"
"""The honest site whose answers the hostile ones start from."""


class Bomb:
    """An object that leaves a file behind where it is unpickled."""

    marker = Path()

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        """Say what unpickling does."""
        return Path.touch, (self.marker,)


def saved(value: Any) -> bytes:
    """Return an array of objects as NumPy writes it."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([value], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def torch_saved(value: Any) -> bytes:
    """Return an object as torch writes it."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def arrays(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Mangle:
    """Return what changes the weights of an update."""

    def mangled(content: RecordDict) -> RecordDict:
        if "model" not in content:  # scores
            return bundle(content)
        model = unpack(content.array_records["model"])
        return bundle(RecordDict({**content, "model": pack(change(model))}))

    return mangled


def each(change: Callable[[torch.Tensor], torch.Tensor]) -> Mangle:
    """Return what changes each floating entry of an update."""
    return arrays(lambda m: {k: change(v) if v.is_floating_point() else v for k, v in m.items()})


def order(**counts: Any) -> Mangle:
    """Return what changes the counts of an answer."""

    def mangled(content: RecordDict) -> RecordDict:
        now = {**json.loads(str(content.config_records["order"]["json"])), **counts}
        return bundle(RecordDict({**content, "order": ConfigRecord({"json": json.dumps(now)})}))

    return mangled


def record(name: str, value: ArrayRecord | ConfigRecord | MetricRecord) -> Mangle:
    """Return what adds or replaces a record, as it is."""
    return lambda content: RecordDict({**bundle(content), name: value})


def raw(name: str, stype: str, data: bytes, dtype: str = "float32") -> Mangle:
    """Return what puts bytes in the place of the model."""
    return record("model", ArrayRecord({name: Array(dtype, (1,), stype, data)}))


def hostile(marker: Path) -> dict[str, tuple[Mangle, str]]:
    """Return what sites answer to an order to train, by site, and the code that it gets."""
    Bomb.marker = marker
    metric = MetricRecord({"loss": 0.5, "site": 1.0})
    return {
        "nan": (each(lambda v: v * np.nan), "R04"),
        "infinity": (each(lambda v: v + np.inf), "R04"),
        "shape": (each(lambda v: v[None]), "R03"),
        "dtype": (each(lambda v: v.double()), "R03"),
        "missing": (arrays(lambda m: dict(list(m.items())[1:])), "R03"),
        "further": (arrays(lambda m: {**m, "images": torch.ones(9)}), "R03"),
        "renamed": (arrays(lambda m: {k.upper(): v for k, v in m.items()}), "R03"),
        "loud": (each(lambda v: v * 1000), "R41"),
        "greedy": (order(n_examples=5000), "R42"),
        "negative": (order(n_examples=-5), "R03"),
        "endless": (order(n_examples=10**30), "R03"),
        "half": (order(n_examples=1.5), "R03"),
        "wordy": (order(n_subjects="Zweistein"), "R03"),
        "notes": (record("notes", ConfigRecord({"text": "Zweistein"})), "R03"),
        "images": (record("extra.images", bundled(torch.ones(9))), "R03"),
        "posing": (record("metrics", metric), "R03"),
        "list": (record("metrics", MetricRecord({"loss": [1.0, 2.0]})), "R03"),
        "swapped": (record("metrics", ConfigRecord({"loss": 1.0})), "R03"),
        "pickled": (raw("safetensors", "safetensors", pickle.dumps(Bomb())), "R03"),
        "pickled-npy": (raw("w", "numpy.ndarray", saved(Bomb())), "R03"),
        "pickled-as-safe": (raw("safetensors", "safetensors", saved(Bomb())), "R03"),
        "pickled-raw": (raw("safetensors", "numpy.ndarray", pickle.dumps(Bomb())), "R03"),
        "pickled-torch": (raw("safetensors", "torch.Tensor", torch_saved(Bomb())), "R03"),
        "pickled-order": (record("order", ConfigRecord({"json": pickle.dumps(Bomb())})), "R03"),
        "torn": (raw("safetensors", "safetensors", b"\xff" * 20), "R03"),
        "silent": (lambda _: RecordDict(), "R03"),
    }


def bundled(value: torch.Tensor) -> ArrayRecord:
    """Return an array record as it travels."""
    return bundle(RecordDict({"x": pack({"x": value})})).array_records["x"]


def over_the_wire(content: RecordDict) -> RecordDict:
    """Return what comes out of the bytes that Flower makes of content."""
    parts = {name: part.deflate() for name, part in get_all_nested_objects(content).items()}
    arrived = inflate_object_from_contents(content.object_id, parts)
    assert isinstance(arrived, RecordDict)
    return arrived


class HostileGrid(Grid):
    """A grid as of a deployment, whose messages are bytes on their way, with hostile sites."""

    def __init__(self, nodes: Iterable[Node], plan: Plan, mangles: Mapping[str, Mangle]) -> None:
        self._inner = InProcessGrid(app, nodes, {"plan": to_json(plan)})
        self._mangles = mangles
        self._ids = {node.site: i for i, node in self._inner.nodes.items()}
        self._names = {i: name for name, i in self._ids.items() if name != SOURCE}
        self._names |= dict(enumerate(sorted(mangles), 5000))
        self._replies: dict[str, Message] = {}
        self._answers: dict[tuple[str, str], RecordDict] = {}

    def get_nodes(self) -> list[NodeInfo]:
        """Return all sites but the one that the hostile ones copy."""
        return [NodeInfo(node_id=i, name=name) for i, name in self._names.items()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Let each site answer."""
        ids = []
        for message in map(sent, messages):
            site, kind = self._names[message.metadata.dst_node_id], message.metadata.message_type
            order = unbundle(over_the_wire(message.content))
            mangle = self._mangles.get(site)
            content = self._honest(SOURCE if mangle else site, kind, order)
            answer = mangle(content) if mangle else bundle(content)
            ids.append(message.metadata.message_id)
            self._replies[ids[-1]] = Message(over_the_wire(answer), reply_to=message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that are there, once."""
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def _honest(self, site: str, kind: str, order: RecordDict) -> RecordDict:
        """Return what a site answers; the hostile ones all ask one, which answers once."""
        if (site, kind) not in self._answers or site != SOURCE:
            message = Message(order, self._ids[site], kind, ttl=60.0)
            [reply] = self._inner.pull_messages(self._inner.push_messages([message]))
            self._answers[site, kind] = reply.content
        return self._answers[site, kind]

    def set_run(self, run: FlowerRun) -> None:
        """Set the run."""

    @property
    def run(self) -> FlowerRun:
        """Run."""
        return self._inner.run

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """Make no message: nobody asks for one."""
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        """Return the nodes."""
        return list(self._names)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Not used."""
        raise NotImplementedError


@dataclass(frozen=True)
class World:
    """Three prepared hospitals, and a plan of one round."""

    plan: Plan
    prepared: Mapping[str, Path]

    def nodes(self, folder: Path) -> list[Node]:
        """Return the hospitals, with their state in a folder."""
        return [
            Node(
                name,
                {"site": name, "prepared": json.dumps([str(path)]), "folder": str(folder / name)},
            )
            for name, path in self.prepared.items()
        ]


@pytest.fixture(scope="module")
def world(hospitals: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the hospitals of the shared data set, prepared."""
    plan = plan_of("rounds.n_rounds=1", "rounds.min_sites=2", "rounds.quorum=0.05")
    source = replace(plan.data.source, path=str(hospitals))
    at = replace(plan, data=replace(plan.data, source=source))
    sites = SiteSource(at, PartitionConfig(), "", is_rest_external=False, cache=cache)
    return World(plan, prepare_sites(sites, tmp_path_factory.mktemp("prepared")).sites)


def records(folder: Path, kind: str) -> dict[str, str]:
    """Return the status of each site's records of a kind."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return {one["site"]: one.get("status", "ok") for one in found if one["kind"] == kind}


def test_hostile_sites_are_left_out_and_the_others_go_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is refused by its code and named; the model is that of the honest; nothing unpickled."""
    monkeypatch.setattr(asking, "LONGEST_S", 0.0)
    attacks = hostile(tmp_path / "unpickled")
    everybody = (*HONEST, *sorted(attacks))
    (tmp_path / "run").mkdir()
    run = Run(
        *(world.plan, Arm("federated"), everybody, everybody, tmp_path / "run"),
        declared={"greedy": 1000},
    )
    grid = HostileGrid(
        world.nodes(tmp_path), world.plan, {name: mangle for name, (mangle, _) in attacks.items()}
    )
    sha256 = Rounds(run, grid, lambda _: None).go()
    wanted = dict.fromkeys(HONEST, "ok") | {name: code for name, (_, code) in attacks.items()}
    assert records(run.folder, "round") == wanted
    scored = records(run.folder, "test")
    assert [scored[name] for name in (*HONEST, "nan")] == ["ok"] * 3
    assert {scored[name] for name in ("wordy", "notes", "endless", "pickled-order")} == {"R03"}
    assert all(name in caplog.text for name in attacks)
    (tmp_path / "honest").mkdir()
    honest = Run(world.plan, Arm("federated"), HONEST, HONEST, tmp_path / "honest")
    nodes = [node for node in world.nodes(tmp_path / "honest") if node.site in HONEST]
    plan: dict[str, str | int] = {"plan": to_json(world.plan)}
    assert sha256 == Rounds(honest, InProcessGrid(app, nodes, plan), lambda _: None).go()
    assert not (tmp_path / "unpickled").exists()


def test_the_bomb_goes_off_where_it_is_unpickled(tmp_path: Path) -> None:
    """The search for its trace would have found it."""
    Bomb.marker = tmp_path / "unpickled"
    np.load(io.BytesIO(saved(Bomb())), allow_pickle=True)
    assert Bomb.marker.exists()
