"""Sites in worker processes: the same ClientApp, the same bits, several sites at a time."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from flwr.app import Error, Message

from fedmri.simulation.engines.blocks import Block, TensorPlace, make_folder
from fedmri.simulation.engines.flower import Node, SimulatedGrid, context_of, failure
from fedmri.wire import put_together, take_apart
from fedmri.wire.grid import identify_task, sent

log = logging.getLogger("fedmri.simulation")

N_SLOTS = 2
"""Replies a worker may have waiting: it trains the next site while one is being added up."""
AT_FIRST_STEP = "torch._dynamo"
"""What torch itself imports when the first optimizer is made. It takes longer than the rest."""


@dataclass(frozen=True)
class Job:
    """An order for one site, without its arrays."""

    node_id: int
    node: Node
    run_config: dict[str, str | int]
    kind: str
    ttl: float
    skeleton: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """A site's answer; its arrays are valid until ``release`` is called."""

    reply: Callable[[Message], Message]
    release: Callable[[], None]


def _released(future: Future[Outcome]) -> None:
    """Give back the block of an answer that nobody reads."""
    if not future.cancelled() and future.exception() is None:
        future.result().release()


class Engine(Protocol):
    """Somewhere to run ClientApps: processes of this machine, or a Ray cluster."""

    n_workers: int

    def publish(self, arrays: Mapping[str, Any]) -> Any:
        """Put arrays where every worker can read them, until the next call for this grid."""
        ...

    def submit(self, job: Job, arrays: Any) -> Future[Outcome]:
        """Queue a job; jobs start in the order in which they come."""
        ...

    def close(self) -> None:
        """Stop the workers and give their memory back."""
        ...


class PooledGrid(SimulatedGrid):
    """A Flower grid over an engine of workers; replies come in the order of the messages."""

    def __init__(
        self, engine: Engine, nodes: Iterable[Node], run_config: dict[str, str | int]
    ) -> None:
        super().__init__(nodes, run_config)
        self._engine = engine

    def stream(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Run all messages on the workers and yield the replies in order."""
        waiting = [sent(message) for message in messages]
        if not waiting:
            return
        # All sites of an exchange are sent the same: their arrays are published once.
        skeleton, arrays = take_apart(waiting[0].content)
        published = self._engine.publish(arrays)
        futures = [
            self._engine.submit(self._job(message, skeleton), published) for message in waiting
        ]
        unread = deque(futures)
        try:
            for message in waiting:
                outcome = unread.popleft().result()
                try:
                    yield outcome.reply(message)
                finally:
                    outcome.release()
        finally:  # where nobody asks for more: a worker waits for its block, and other arms for it
            for future in unread:
                future.add_done_callback(_released)

    def _job(self, message: Message, skeleton: dict[str, Any]) -> Job:
        node_id, meta = message.metadata.dst_node_id, message.metadata
        node = self.nodes[node_id]
        return Job(node_id, node, self.run_config, meta.message_type, meta.ttl, skeleton)


class ProcessEngine:
    """Worker processes of this machine.

    Args:
        n_workers: Processes.
        client: ClientApp that they run, as ``module:attribute``.
        log_file: Where they log to.
    """

    def __init__(self, n_workers: int, client: str, log_file: Path) -> None:
        self.n_workers = n_workers
        self._folder = make_folder()
        self._arguments = (client, str(log_file), self._folder.name)
        self._threads = ThreadPoolExecutor(n_workers, thread_name_prefix="site")
        self._mine = threading.local()
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        self._n_published = 0

    def publish(self, arrays: Mapping[str, Any]) -> tuple[str, dict[str, TensorPlace]]:
        """Write the arrays to a block of the calling thread."""
        block: Block | None = getattr(self._mine, "block", None)
        if block is None:
            with self._lock:
                self._n_published += 1
                block = Block(Path(self._folder.name) / f"orders-{self._n_published}")
            self._mine.block = block
        return str(block.path), block.write(dict(arrays))

    def submit(self, job: Job, arrays: tuple[str, dict[str, TensorPlace]]) -> Future[Outcome]:
        """Queue a job for the next free worker."""
        return self._threads.submit(self._run, job, arrays)

    def close(self) -> None:
        """Stop the workers and give their memory back."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.stop()
        self._threads.shutdown()
        self._folder.cleanup()

    def _run(self, job: Job, arrays: tuple[str, dict[str, TensorPlace]]) -> Outcome:
        worker: _Worker | None = getattr(self._mine, "worker", None)
        if worker is None or not worker.is_alive:
            with self._lock:
                worker = _Worker(len(self._workers), *self._arguments)
                self._workers.append(worker)
            self._mine.worker = worker
        return worker.run(job, arrays)


def _context(client: str) -> ForkServerContext | SpawnContext:
    """Return how workers start: forked off one process that has imported what all need.

    That process has run nothing and has one thread. Where there is no fork, each worker imports.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([client.partition(":")[0], AT_FIRST_STEP])
    return context


@contextmanager
def _apart_from_the_script() -> Iterator[None]:
    """Let a worker start without running the script of this process once more.

    Python has each child import the parent's main module, and a script without ``if __name__ ==
    "__main__"`` would start its study again in every worker. Workers need none of it.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


class _Worker:
    """One process and the blocks that its replies come in."""

    def __init__(self, number: int, client: str, log_file: str, folder: str) -> None:
        context = _context(client)
        self._pipe, theirs = context.Pipe()
        self._blocks = [Block(Path(folder) / f"reply-{number}-{i}") for i in range(N_SLOTS)]
        self._free = threading.Semaphore(N_SLOTS)
        self._slots = list(range(N_SLOTS))
        paths = [str(block.path) for block in self._blocks]
        self._process: BaseProcess = context.Process(
            target=work, args=(theirs, client, log_file, paths), daemon=True
        )
        with _apart_from_the_script():
            self._process.start()
        theirs.close()

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def run(self, job: Job, arrays: tuple[str, dict[str, TensorPlace]]) -> Outcome:
        self._free.acquire()
        slot = self._slots.pop()
        try:
            self._pipe.send((job, arrays, slot))
            answer = self._pipe.recv()
        except (EOFError, OSError):
            log.error("the process of site %s died", job.node.site)
            return Outcome(lambda message: failure("round error R05", message), lambda: None)

        def release() -> None:
            self._slots.append(slot)
            self._free.release()

        return Outcome(lambda message: self._reply(message, slot, answer), release)

    def _reply(self, message: Message, slot: int, answer: Any) -> Message:
        if isinstance(answer, Error):
            return Message(answer, reply_to=message)
        skeleton, entries = answer
        content = put_together(skeleton, self._blocks[slot].read(entries))
        return Message(content, reply_to=message)

    def stop(self) -> None:
        self._process.terminate()
        self._process.join(5)
        self._pipe.close()


def work(pipe: Connection, client: str, log_file: str, reply_paths: list[str]) -> None:
    """Run a ClientApp for every job that comes, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log_to(log_file)
    identify_task()
    orders: dict[str, Block] = {}
    replies = [Block(Path(path)) for path in reply_paths]
    while True:
        try:
            job, (path, entries), slot = pipe.recv()
        except EOFError:
            return
        arrays = orders.setdefault(path, Block(Path(path))).read(entries)
        answer = answer_of(client, job, arrays)
        if not isinstance(answer, Error):
            skeleton, values = answer
            answer = (skeleton, replies[slot].write(values))
        pipe.send(answer)


def _end_with_parent() -> None:
    """End at once when the parent is killed: a resumed run must not meet the old run's workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def answer_of(client: str, job: Job, arrays: Mapping[str, Any]) -> Any:
    """Run a ClientApp; return an ``Error``, or the answer taken apart."""
    module, attribute = client.split(":")
    content = put_together(job.skeleton, dict(arrays))
    message = sent(Message(content, job.node_id, job.kind, ttl=job.ttl))
    try:
        app = getattr(import_module(module), attribute)
        reply = app(message, context_of(job.node_id, job.node, job.run_config))
    except Exception as error:  # outermost frame of a simulated process
        log.error("site %s failed", job.node.site, exc_info=error)
        return failure("round error R05", message).error
    return reply.error if reply.has_error() else take_apart(reply.content)


def log_to(log_file: str) -> None:
    """Send this process's log to a file."""
    form = "%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"
    logging.basicConfig(filename=log_file, format=form, level=logging.INFO, force=True)
