"""The file of weights of a deployment's run: a copy in its folder, which the server begins from."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmri.server.registry.home import ServerHome
from fedmri.server.runs import new_run
from tests.server.conftest import Deploy


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_run_keeps_its_own_copy_of_the_weights(
    ending: str, deploy: Deploy, coordinator: ServerHome, tmp_path: Path
) -> None:
    """What becomes of the file later does not matter; its ending says how it is read."""
    signed = deploy("first").signed
    file = tmp_path / f"start{ending}"
    file.write_bytes(b"weights")
    run = new_run(coordinator.runs, signed, "second", ("a",), file)
    file.unlink()
    assert run.weights is not None
    assert run.weights.suffix == ending
    assert run.weights.read_bytes() == b"weights"
    assert deploy("third").weights is None
