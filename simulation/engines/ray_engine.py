"""Sites on a Ray cluster: the same jobs as ``pool``, over actors."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from flwr.app import Error, Message

from fedmri.errors import ConfigError
from fedmri.round import Weights
from fedmri.simulation.engines.flower import failure
from fedmri.simulation.engines.pool import Job, Outcome, answer_of, log_to
from fedmri.wire import put_together
from fedmri.wire.grid import identify_task


class SiteActor:
    """What runs in a Ray worker: the ClientApp, job after job."""

    def __init__(self, client: str, log_file: str) -> None:
        log_to(log_file)
        identify_task()
        self._client = client

    def run(self, job: Job, arrays: Mapping[str, Any]) -> Any:
        """Return an ``Error``, or the answer taken apart, its tensors as arrays."""
        answer = answer_of(self._client, job, _views(arrays))
        if isinstance(answer, Error):
            return answer
        skeleton, values = answer
        return skeleton, {name: value.numpy() for name, value in values.items()}


class RayEngine:
    """Actors of a Ray cluster; ``RAY_ADDRESS`` names one, else it is started here.

    Args:
        n_workers: Actors.
        client: ClientApp that they run, as ``module:attribute``.
        log_file: Where they log to.

    Raises:
        ConfigError: Ray is not installed (C05).
    """

    def __init__(self, n_workers: int, client: str, log_file: Path) -> None:
        self.n_workers = n_workers
        self._arguments = (client, str(log_file))
        self._ray = _import_ray()
        if not self._ray.is_initialized():
            quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
            cluster = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": n_workers}
            self._ray.init(**quiet, **cluster)
        self._threads = ThreadPoolExecutor(n_workers, thread_name_prefix="site")
        self._mine = threading.local()

    def publish(self, arrays: Mapping[str, Any]) -> Any:
        """Put the arrays into the cluster's object store, once for all actors."""
        return self._ray.put({name: value.numpy() for name, value in arrays.items()})

    def submit(self, job: Job, arrays: Any) -> Future[Outcome]:
        """Queue a job for the next free actor."""
        return self._threads.submit(self._run, job, arrays)

    def close(self) -> None:
        """Stop the actors, and the cluster where it was started here."""
        self._threads.shutdown(cancel_futures=True)
        self._ray.shutdown()

    def _run(self, job: Job, arrays: Any) -> Outcome:
        actor = getattr(self._mine, "actor", None)
        if actor is None:
            actor = self._ray.remote(num_cpus=1)(SiteActor).remote(*self._arguments)
            self._mine.actor = actor
        try:
            answer = self._ray.get(actor.run.remote(job, arrays))
        except self._ray.exceptions.RayError:
            self._mine.actor = None
            return Outcome(lambda message: failure("round error R05", message), lambda: None)
        return Outcome(lambda message: _reply(message, answer), lambda: None)


def _reply(message: Message, answer: Any) -> Message:
    if isinstance(answer, Error):
        return Message(answer, reply_to=message)
    skeleton, arrays = answer
    return Message(put_together(skeleton, _views(arrays)), reply_to=message)


def _views(arrays: Mapping[str, Any]) -> Weights:
    """Return tensors that share Ray's memory; it is read-only, and so are all readers here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {name: torch.from_numpy(value) for name, value in arrays.items()}


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        fix = "pip install 'fedmri[ray]', or set simulation.backend=local"
        want = "ray installed"
        what = "simulation.backend=ray"
        raise ConfigError("C05", what, found="no ray", want=want, fix=fix) from error
    return ray
