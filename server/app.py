"""Flower's ServerApp: the same object drives a simulation and a consortium."""

from __future__ import annotations

import json
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedmri.arm import Arm
from fedmri.plan import from_json
from fedmri.secagg.secure_sum import Roll
from fedmri.server.rounds.loop import Rounds
from fedmri.server.rounds.records import Observer, Record
from fedmri.server.rounds.run import Run


def _ignore(record: Record) -> None:
    """Watch nothing."""


def create_app(observe: Observer = _ignore) -> ServerApp:
    """Return the ServerApp.

    Its ``run_config`` names the ``plan`` (JSON), the ``arm``, the ``members`` that train and the
    sites that are ``tested`` (JSON lists; empty takes all), the ``folder`` and ``n-pictures``, and
    the ``roll`` of secure sums and the file of ``weights`` where the plan has them. ``slow`` names
    the rounds that sites of a simulation take for an answer (JSON), where it declares any.

    Args:
        observe: Is handed every record as it is written.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        config = context.run_config
        run = Run(
            plan=from_json(str(config["plan"])),
            arm=Arm(**json.loads(str(config["arm"]))),
            members=tuple(json.loads(str(config["members"]))),
            tested=tuple(json.loads(str(config["tested"]))),
            folder=Path(str(config["folder"])),
            n_pictures=int(config["n-pictures"]),
            weights=Path(str(config["weights"])) if "weights" in config else None,
            roll=Roll.from_json(str(config["roll"])) if "roll" in config else Roll(),
            slow=json.loads(str(config.get("slow", "{}"))),
        )
        Rounds(run, grid, observe).go()

    return app


app = create_app()
