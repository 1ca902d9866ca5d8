"""A recording position between a site and the server, behind TLS; and the search of what it saw."""

from __future__ import annotations

import base64
import re
import select
import socket
import ssl
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from fedmri.server.registry.home import ServerHome

TEXT_64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")


class Tap:
    """A proxy that ends TLS with the server's own certificate, and keeps each byte in the clear."""

    def __init__(self, home: ServerHome) -> None:
        self.seen: list[bytearray] = []
        self._target = home.config.port
        self._outward = ssl.create_default_context(cafile=str(home.ca_cert))
        self._inward = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._inward.load_cert_chain(home.tls_cert, home.tls_key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """End the listening; connections end with the processes that opened them."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                plain, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(plain,), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), plain, self._inward.wrap_socket(plain, server_side=True) as site:
            connection = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            connection.settimeout(None)
            with (
                connection,
                self._outward.wrap_socket(connection, server_hostname="127.0.0.1") as server,
            ):
                self._relay(site, server)

    def _relay(self, site: ssl.SSLSocket, server: ssl.SSLSocket) -> None:
        other, seen = {site: server, server: site}, {site: bytearray(), server: bytearray()}
        self.seen += seen.values()
        while True:
            ready = [end for end in other if end.pending()]
            for source in ready or select.select(list(other), [], [])[0]:
                data = _received(source)
                if data == b"":
                    return
                seen[source] += data or b""
                other[source].sendall(data or b"")


def _received(source: ssl.SSLSocket) -> bytes | None:
    """Return what is there, or None: a part of TLS may be readable that holds nothing for us."""
    source.setblocking(False)
    try:
        return source.recv(65536)
    except ssl.SSLWantReadError:
        return None
    finally:
        source.setblocking(True)


def on_disk(folder: Path) -> Iterator[bytes]:
    """Yield names and contents of all files of a folder."""
    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)).encode()
        if path.is_file():
            yield path.read_bytes()


def disguised(needle: str) -> set[bytes]:
    """Return a text in the forms in which it may hide."""
    raw = needle.encode()
    forms = {raw, raw.lower(), raw.upper(), raw.hex().encode(), needle.encode("utf-16-le")}
    forms |= {needle.encode("unicode_escape"), needle.encode("latin-1", "replace")}
    return forms


def found(needles: Iterable[bytes], haystacks: Iterable[bytes]) -> set[bytes]:
    """Return which needles are in what was captured, inside of base64 and deflated streams too."""
    wanted, hits = set(needles), set[bytes]()
    for haystack in haystacks:
        for layer in layers(bytes(haystack)):
            hits |= {needle for needle in wanted - hits if needle in layer}
    return hits


def layers(data: bytes, depth: int = 2) -> Iterator[bytes]:
    """Yield the data, and what is packed in them."""
    yield data
    if not depth:
        return
    for match in TEXT_64.finditer(data):
        text = match[0].rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        with suppress(ValueError):
            yield from layers(base64.b64decode(text + b"=" * (-len(text) % 4)), depth - 1)
    for match in ZLIB.finditer(data):
        unpacked = zlib.decompressobj(wbits=47)  # zlib or gzip, as its head says
        with suppress(zlib.error):
            yield from layers(unpacked.decompress(data[match.start() :], 2**22), depth - 1)
