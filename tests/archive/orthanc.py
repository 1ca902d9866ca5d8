"""A real archive on this machine: Orthanc with its DICOMweb plugin, over TLS and with a password.

Debian's Orthanc 1.10 crashes at the first TLS handshake, so TLS ends in front of it.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

PROGRAM = shutil.which("Orthanc") or shutil.which("/usr/sbin/Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ABSENT = "no Orthanc with DICOMweb: apt install orthanc orthanc-dicomweb"
USER, PASSWORD = "reader", "canary-password"
START_S = 60.0


@dataclass(frozen=True)
class Served:
    """An Orthanc that runs."""

    port: int
    authority: Path

    @property
    def url(self) -> str:
        """Address of its DICOMweb."""
        return f"https://127.0.0.1:{self.port}/dicom-web"

    def login(self, folder: Path, **other: str) -> Path:
        """Write a private file with the login, or another one."""
        values = {"url": self.url, "user": USER, "password": PASSWORD, "ca": str(self.authority)}
        path = folder / f"login-{len(list(folder.glob('login-*')))}.yaml"
        path.write_text(json.dumps(values | other), encoding="utf-8")  # JSON is YAML
        path.chmod(0o600)
        return path


@contextmanager
def orthanc(folder: Path) -> Iterator[Served]:
    """Run Orthanc in a folder until the end of the block."""
    inner = _free_port()
    _certify(folder)
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": inner,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomServerEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [str(PROGRAM), str(folder / "orthanc.json")], stdout=log, stderr=log
        )
    try:
        _wait(inner, process, folder / "log.txt")
        with _behind_tls(inner, folder / "server.pem") as port:
            yield Served(port, folder / "authority.pem")
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            opener.open(f"http://127.0.0.1:{port}/system", timeout=5)
        except urllib.error.HTTPError as error:
            error.close()
            return  # it answers, and wants a password
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"Orthanc did not start: {log.read_text(errors='replace')[-2000:]}")


@contextmanager
def _behind_tls(inner: int, certificate: Path) -> Iterator[int]:
    """Pass what comes over TLS on to a port of this machine; yield the port in front."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()  # one side went away, and the other follows

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection("127.0.0.1", inner)
        await asyncio.gather(passed(reader, behind[1]), passed(behind[0], writer))

    loop = asyncio.new_event_loop()
    front = loop.run_until_complete(asyncio.start_server(joined, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield int(front.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(_ended(front), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _ended(front: asyncio.Server) -> None:
    """Stop listening, and let open connections end."""
    front.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0.05)  # in which transports close


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _certify(folder: Path) -> None:
    """Write a certificate for loopback, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(Encoding.PEM)
    (folder / "authority.pem").write_bytes(public)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "server.pem").write_bytes(public + secret)
