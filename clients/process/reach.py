"""Can this site reach its server, and is it the server? Each answer with its remedy."""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from fedmri.agreement.consortium import Consortium, is_ip

TIMEOUT_S = 5.0
AHEAD_S, BEHIND_S = 4.0, 300.0
"""The server refuses messages from clocks 5 s ahead of its own, or 305 s behind."""
SOON_DAYS = 30
NO_ANSWER = f"no answer within {TIMEOUT_S:.0f} s"
CLOCK_FIX = "switch on time synchronisation (NTP) on this machine"


Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class DoctorFinding:
    """One line of the doctor.

    Attributes:
        name: What was looked at.
        level: ``fail`` keeps the client from working, ``warn`` may.
        found: What it is like.
        fix: What to do; empty where nothing is to be done.
    """

    name: str
    level: Level
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Look:
    """What a server shows to anybody: its certificate, and its clock beside ours.

    Attributes:
        certificate: The server's certificate; nothing about it is verified yet.
        ahead_s: Seconds that this machine's clock is ahead; None where the server told no time.
        unsure_s: How far that may be off.
    """

    certificate: x509.Certificate
    ahead_s: float | None
    unsure_s: float


def examine_network(consortium: Consortium) -> Iterator[DoctorFinding]:
    """Yield what stands between this site and its server; after a failure, what makes sense yet."""
    proxy = proxy_for(consortium.host)
    if proxy is None:
        addresses = _addresses(consortium)
        yield _dns(consortium, addresses)
        if not addresses:
            return
    yield _proxy(consortium, proxy)
    if proxy is not None and proxy.scheme != "http":
        return
    reached = _port(consortium, proxy)
    yield reached
    if reached.level == "fail":
        return
    yield from _tls(consortium, proxy)


def proxy_for(host: str) -> SplitResult | None:
    """Return the proxy that the environment names for a host, or None."""
    proxies = getproxies()
    text = proxies.get("https") or proxies.get("all")
    if not text or proxy_bypass(host):
        return None
    return urlsplit(text if "://" in text else f"http://{text}")


def _addresses(consortium: Consortium) -> list[str]:
    try:
        found = socket.getaddrinfo(consortium.host, consortium.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _dns(consortium: Consortium, addresses: list[str]) -> DoctorFinding:
    if not addresses:
        fix = f"ask the hospital's IT to resolve {consortium.host}, or the coordinator for its name"
        return DoctorFinding("name", "fail", f"{consortium.host} has no address", fix)
    parts = [f"{address} (IPv{ipaddress.ip_address(address).version})" for address in addresses]
    return DoctorFinding("name", "ok", f"{consortium.host} is {', '.join(parts)}")


def _proxy(consortium: Consortium, proxy: SplitResult | None) -> DoctorFinding:
    if proxy is None:
        return DoctorFinding("proxy", "ok", "none for this server")
    direct = f"set NO_PROXY={consortium.host} where the server can be reached directly"
    if proxy.scheme != "http":
        return DoctorFinding("proxy", "fail", f"{proxy.scheme} proxies are not supported", direct)
    found = f"{proxy.hostname}:{proxy.port or 80} stands between"
    fix = f"{direct}; else the proxy must let CONNECT {consortium.address} pass, unopened"
    return DoctorFinding("proxy", "warn", found, fix)


def _port(consortium: Consortium, proxy: SplitResult | None) -> DoctorFinding:
    fix = f"have the firewall let this machine out to {consortium.address} (TCP); if it does, ask "
    fix += "the coordinator whether the server runs"
    if proxy is not None:
        try:
            connect(consortium, proxy, None).close()
        except (OSError, http.client.HTTPException) as error:
            return DoctorFinding("port", "fail", f"through the proxy: {_said(error)}", fix)
        return DoctorFinding("port", "ok", f"{consortium.address} answers through the proxy")
    failures = {address: _try(address, consortium.port) for address in _addresses(consortium)}
    said = "; ".join(f"{address}: {text}" for address, text in failures.items() if text)
    if all(failures.values()):
        return DoctorFinding("port", "fail", said, fix)
    if NO_ANSWER in failures.values():  # a refusal costs no time, the next address is taken
        fix = "have the firewall let this address pass too, or the name resolve without it"
        return DoctorFinding("port", "warn", said, fix)
    return DoctorFinding("port", "ok", f"{consortium.address} answers")


def _try(address: str, port: int) -> str:
    try:
        socket.create_connection((address, port), TIMEOUT_S).close()
    except OSError as error:
        return _said(error)
    return ""


def _tls(consortium: Consortium, proxy: SplitResult | None) -> Iterator[DoctorFinding]:
    fix = f"ask the coordinator what listens at {consortium.address}: it is not a fedmri server"
    try:
        look = _look(consortium, proxy)
    except (OSError, http.client.HTTPException, ValueError) as error:
        yield DoctorFinding("TLS", "fail", _said(error), fix)
        return
    yield _issuer(consortium, look.certificate)
    yield _names(consortium, look.certificate)
    yield _expiry(look.certificate)
    yield _trust(consortium, proxy)
    yield _clock(look)


def _look(consortium: Consortium, proxy: SplitResult | None) -> Look:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent but a question for the time
    connection = connect(consortium, proxy, context)
    try:
        peer = _wrapped(connection).getpeercert(binary_form=True) or b""
        before = time.time()
        connection.request("GET", "/", headers={"Connection": "close"})
        date = connection.getresponse().getheader("Date")
        after = time.time()
    finally:
        connection.close()
    certificate = x509.load_der_x509_certificate(peer)
    if not date:
        return Look(certificate, None, 0.0)
    # The header drops the fraction, and the server makes a new one each second only.
    server = parsedate_to_datetime(date).timestamp() + 1.0
    return Look(certificate, (before + after) / 2 - server, 1.0 + (after - before) / 2)


def _issuer(consortium: Consortium, certificate: x509.Certificate) -> DoctorFinding:
    try:
        authority = x509.load_pem_x509_certificate(consortium.ca.encode())
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        found = f"another: {certificate.issuer.rfc4514_string()}"
        fix = "a proxy that opens TLS must leave this address alone; if there is none, do not go on"
        return DoctorFinding("authority", "fail", found, f"{fix} and call the coordinator")
    return DoctorFinding("authority", "ok", "the consortium's own signed the certificate")


def _names(consortium: Consortium, certificate: x509.Certificate) -> DoctorFinding:
    names = _names_of(certificate)
    host = str(ipaddress.ip_address(consortium.host)) if is_ip(consortium.host) else consortium.host
    if host.lower() in names:
        return DoctorFinding("certificate", "ok", f"is for {', '.join(sorted(names))}")
    fix = "the coordinator adds the name to server.yaml and runs `fedmri server renew`"
    found = f"is for {', '.join(sorted(names)) or 'nobody'}, not for {consortium.host}"
    return DoctorFinding("certificate", "fail", found, fix)


def _names_of(certificate: x509.Certificate) -> set[str]:
    kind = x509.SubjectAlternativeName
    try:
        alternatives = certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return set()
    names = {name.lower() for name in alternatives.get_values_for_type(x509.DNSName)}
    return names | {str(address) for address in alternatives.get_values_for_type(x509.IPAddress)}


def _expiry(certificate: x509.Certificate) -> DoctorFinding:
    now = datetime.now(UTC)
    n_days = (certificate.not_valid_after_utc - now).days
    fix = "ask the coordinator to run `fedmri server renew`"
    if now < certificate.not_valid_before_utc:
        found = f"begins only at {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return DoctorFinding("expiry", "fail", found, f"{CLOCK_FIX}, or {fix}")
    if now > certificate.not_valid_after_utc:
        found = f"the certificate expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        return DoctorFinding("expiry", "fail", found, fix)
    if n_days < SOON_DAYS:
        return DoctorFinding("expiry", "warn", f"{n_days} days left", fix)
    return DoctorFinding("expiry", "ok", f"{n_days} days left")


def _trust(consortium: Consortium, proxy: SplitResult | None) -> DoctorFinding:
    """Shake hands as the client will."""
    context = ssl.create_default_context(cadata=consortium.ca)
    try:
        connection = connect(consortium, proxy, context)
    except (OSError, http.client.HTTPException) as error:
        said = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else ""
        return DoctorFinding("TLS", "fail", said or _said(error), "see the failures above")
    version = _wrapped(connection).version()
    connection.close()
    return DoctorFinding("TLS", "ok", f"{version}, verified as the client does")


def _clock(look: Look) -> DoctorFinding:
    if look.ahead_s is None:
        return DoctorFinding("clock", "warn", "the server told no time", CLOCK_FIX)
    ahead, unsure = look.ahead_s, look.unsure_s
    word = "ahead of" if ahead > 0 else "behind"
    found = f"{abs(ahead):.1f} s {word} the server's (±{unsure:.1f} s)"
    if ahead > AHEAD_S or ahead < -BEHIND_S:
        return DoctorFinding("clock", "fail", f"{found}: it will refuse this site", CLOCK_FIX)
    if ahead + unsure > AHEAD_S or ahead < -BEHIND_S / 5:
        return DoctorFinding("clock", "warn", found, CLOCK_FIX)
    return DoctorFinding("clock", "ok", found)


def connect(
    consortium: Consortium, proxy: SplitResult | None, context: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    """Return an open connection to the server; without a context it is TCP alone."""
    host, port = consortium.host, consortium.port
    if proxy is not None:
        host, port = proxy.hostname or "", proxy.port or 80
    connection: http.client.HTTPConnection
    if context is None:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    if proxy is not None:
        connection.set_tunnel(consortium.host, consortium.port, _proxy_login(proxy))
    connection.connect()
    return connection


def server_certificate(consortium: Consortium) -> x509.Certificate:
    """Return the certificate that the server shows, once the authority vouches for it.

    Raises:
        OSError: Nobody answers, or another than the server.
    """
    context = ssl.create_default_context(cadata=consortium.ca)
    connection = connect(consortium, proxy_for(consortium.host), context)
    try:
        peer = _wrapped(connection).getpeercert(binary_form=True) or b""
    finally:
        connection.close()
    return x509.load_der_x509_certificate(peer)


def _wrapped(connection: http.client.HTTPConnection) -> ssl.SSLSocket:
    assert isinstance(connection.sock, ssl.SSLSocket)  # the connection was made with a context
    return connection.sock


def _proxy_login(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"}


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return NO_ANSWER
    if isinstance(error, OSError) and error.errno in (111, 113):
        return os.strerror(error.errno).lower()
    return " ".join(str(error).split()) or type(error).__name__
