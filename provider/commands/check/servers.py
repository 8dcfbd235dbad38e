"""The servers of a connection, one by one: name, port, greeting, TLS, credentials, version."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from provider import errors
from provider.commands.check.findings import Finding, failed, ok, warning
from provider.commands.connect import addresses
from provider.keyvalue.connections import link_error
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings

NAME = "keyvalue-nats check"

_DEFAULT_PORT = 4222
_MOST_GREETING_BYTES = 65_536
"""A greeting lists the servers of the cluster; hundreds of them fit."""

_OLDEST = (2, 9)
"""The oldest release that the tests run with."""

_LACKS = (
    ((2, 10), "tells no time, so the provider measures clocks by a write"),
    ((2, 11), "removes no expired values, so only the provider's sweep does, and reads keys of one call one by one"),
)
"""The first release that has something, and the lack of it in earlier ones."""


_OWN_FAULTS = ("file cannot be read", "file is not", "file does not", "cannot be loaded")
"""Parts of the reasons for which no server is asked: a file of this side is at fault."""

_TLS_ADVICE = {
    "offers none": "Take TLS out of the settings (tls:// and the TLS files), or switch it on at the server.",
    "has expired": "Renew the server's certificate, or set the clock of this machine.",
    "not yet valid": "Set the clock of this machine, or renew the server's certificate.",
    "mismatch, certificate": "Use a name or an address that the server's certificate has, or give the server another one.",
}
"""Parts of the reasons of TLS that no setting of this side is behind, with what to do."""


class Greeting(Struct, frozen=True):
    """The part of a server's first line that a check uses."""

    version: str = ""
    jetstream: bool = False
    tls_required: bool = False
    cluster: str = ""


async def look_at_server(
    settings: ConnectionSettings, server: str, timeout_seconds: float, hints: Mapping[str, str]
) -> list[Finding]:
    """Return the findings on one server of a connection. One of them is `OK` if it can be used.

    Args:
        settings: Settings of the connection.
        server: URL of the server.
        timeout_seconds: Limit for each step.
        hints: Link value of a connection -> the name under which a person has given it.
    """
    about = f"server {addresses((server,))}"
    greeting = await _reach(about, server, timeout_seconds)
    if isinstance(greeting, Finding):
        return [greeting]
    fault = await _connect(replace(settings, servers=(server,)), timeout_seconds)
    if fault is not None:
        is_own = any(word in fault.reason for word in _OWN_FAULTS)
        text = f"is not asked: {fault.reason}" if is_own else f"refuses the connection: {fault.reason}"
        return [failed(about, text, _advice(fault, hints.get(fault.setting, fault.setting), is_own=is_own))]
    return [ok(about, _shown(greeting)), *version_findings(about, greeting.version)]


def version_findings(about: str, version: str) -> list[Finding]:
    """Return findings on what a release lacks."""
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None:
        return []
    release = int(match[1]), int(match[2])
    findings = [
        warning(about, f"is nats-server {version}, which {lack}", f"Upgrade to {needed[0]}.{needed[1]} or later.")
        for needed, lack in _LACKS
        if release < needed
    ]
    if release < _OLDEST:
        findings.append(warning(about, f"is nats-server {version}, which no test runs with", "Upgrade it."))
    return findings


async def _reach(about: str, server: str, timeout_seconds: float) -> Greeting | Finding:
    """Resolve the server's name, connect to its port, and read its greeting."""
    parts = urlsplit(server)
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORT
    try:
        async with asyncio.timeout(timeout_seconds):
            await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return await _greeting(about, host, port)
    except socket.gaierror:
        return failed(about, f"the name {host} cannot be resolved", "Correct the name, or this machine's DNS.")
    except TimeoutError:
        text = f"port {port} does not answer within {timeout_seconds:g} s"
        return failed(about, text, "Look for a firewall, a frozen server, or a wrong address.")
    except OSError as error:
        text = f"port {port} cannot be reached: {_reason(error)}"
        return failed(about, text, "Start the server, or correct the port.")


def _reason(error: OSError) -> str:
    # asyncio joins the errors of several addresses in one text without a number.
    text = error.strerror if error.errno and error.errno > 0 else str(error)
    return (text or "error").lower()


async def _greeting(about: str, host: str, port: int) -> Greeting | Finding:
    reader, writer = await asyncio.open_connection(host, port, limit=_MOST_GREETING_BYTES)
    try:
        line = await reader.readline()
    except ValueError:  # longer than the limit
        line = b""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if not line.startswith(b"INFO "):
        text = f"the program on port {port} is not a NATS server: it does not greet as one"
        return failed(
            about, text, "Correct the port: clients use 4222 by default, not that of monitoring or of a cluster."
        )
    try:
        return msgspec.json.decode(line[5:], type=Greeting)
    except msgspec.DecodeError:
        return Greeting()


async def _connect(settings: ConnectionSettings, timeout_seconds: float) -> errors.LinkError | None:
    try:
        async with Connection(settings, NAME, timeout_seconds):
            return None
    except errors.ConnectError as error:
        fault = link_error(error, settings)
        if error.is_credentials and not settings.has_credentials:
            return errors.LinkError(fault.setting, f"{error.reason}, and no credentials are given")
        return fault


def _advice(fault: errors.LinkError, shown: str, *, is_own: bool) -> str:
    if is_own:
        return f"Correct {shown}, or the file."
    if advice := next((advice for word, advice in _TLS_ADVICE.items() if word in fault.reason), ""):
        return advice
    if fault.setting.startswith("TLS"):
        return f"Correct {shown}: the certificate of this side, or the authority of the server's."
    if fault.setting == "URL":
        return f"Correct {shown}, or give credentials that the server knows."
    return f"Correct {shown}: the server does not take these credentials."


def _shown(greeting: Greeting) -> str:
    parts = [f"accepts the connection; nats-server {greeting.version or 'of unknown version'}"]
    if greeting.tls_required:
        parts.append("TLS")
    if greeting.cluster:
        parts.append(f"cluster {greeting.cluster}")
    return ", ".join(parts)
