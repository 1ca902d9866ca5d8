"""A connection that can be broken on purpose."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import suppress


class Proxy:
    """A TCP relay that a test can break: ``pass``, ``cut``, ``stall``, ``delay`` or ``reset``."""

    def __init__(self, port: int) -> None:
        self.mode = "pass"
        self._target = port
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: str) -> None:
        """Change what happens to bytes; ``cut`` and ``reset`` end what is open."""
        self.mode = mode
        if mode in ("cut", "reset"):
            for one in list(self._open):
                _reset(one)

    def _accept(self) -> None:
        while True:
            inner, _ = self._listener.accept()
            if self.mode == "cut":
                _reset(inner)
                continue
            try:
                outer = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                _reset(inner)
                continue
            outer.settimeout(None)
            self._open |= {inner, outer}
            for ends in ((inner, outer), (outer, inner)):
                threading.Thread(target=self._relay, args=ends, daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                while self.mode == "stall":
                    time.sleep(0.1)
                if self.mode == "delay":
                    time.sleep(random.uniform(0.2, 3.0))
                if self.mode == "reset" and random.random() < 0.3:
                    break
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            self._open.discard(one)
            _reset(one)


def _reset(one: socket.socket) -> None:
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.shutdown(socket.SHUT_RDWR)
    one.close()
