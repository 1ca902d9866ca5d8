"""A real browser without a window, driven as its developer tools drive it."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp
from websockets.sync.client import ClientConnection, connect

from fedmri.machine.local_web import listen, page_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ABSENT = "no chromium: apt install chromium"
START_S = 60.0


class Page:
    """A page that is open in the browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0

    def call(self, method: str, **values: Any) -> Any:
        """Call a method of the DevTools protocol and return its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": values}))
        while True:
            said = json.loads(self._socket.recv(timeout=START_S))
            if said.get("id") == self._number:
                assert "error" not in said, said
                return said["result"]

    def value(self, expression: str) -> Any:
        """Return the value of an expression of the page, awaited."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str, time_s: float = START_S) -> None:
        """Wait until an expression of the page is true."""
        end = time.monotonic() + time_s
        while not self.value(expression):
            assert time.monotonic() < end, f"never: {expression}"
            self._socket.ping().wait(0.1)

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in a field, as a person does in the browser's own window."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve the application of a page in a thread and yield its address, without the token."""
    listener = listen(0)
    server = page_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def opened(address: str, profile: Path) -> Iterator[Page]:
    """Open an address in a real browser until the end of the block."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--no-proxy-server", f"--user-data-dir={profile}", "--remote-debugging-port=0",
        "about:blank",
    ]  # fmt: skip
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=nothing, stderr=nothing)
    try:
        port, path = _door(profile / "DevToolsActivePort", process)
        with connect(f"ws://127.0.0.1:{port}{path}", proxy=None, max_size=None) as browser:
            target = Page(browser).call("Target.createTarget", url=address)["targetId"]
            door = f"ws://127.0.0.1:{port}/devtools/page/{target}"
            with connect(door, proxy=None, max_size=None) as socket:
                page = Page(socket)
                page.until("document.readyState === 'complete' && location.href !== 'about:blank'")
                yield page
    finally:
        process.terminate()
        process.wait(timeout=30)


def _door(file: Path, process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Return port and path of the browser's developer tools, once it has written them."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        lines = file.read_text().split() if file.exists() else []
        if len(lines) == 2:
            return lines[0], lines[1]
        time.sleep(0.1)
    raise AssertionError("chromium did not start")
