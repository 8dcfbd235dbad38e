"""JetStream in the account of a connection: enabled, limits, domain; and the clock of the server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
from msgspec import Struct, field

from provider import errors
from provider.commands.check.findings import Finding, failed, ok, warning
from provider.nats.connection import Connection
from provider.nats.times import time_ms

NEARLY_FULL = 0.9
"""The share from which an alert is raised too: see deploy/prometheus-rules.yml."""

_CLOCK = "clock"
_CLOCK_WARNING_MS = 2_000
"""Clocks that are synchronized differ by less. Invocations count for seconds, so that more is worth a look."""

_CLOCK_FAILED_MS = 60_000
"""Replicas of a cache refuse each other from here on."""


class AccountLimits(Struct, frozen=True):
    """Limits of an account. 0 and -1 of the storage: nothing allowed, and no limit."""

    max_memory: int = -1
    max_storage: int = -1
    max_streams: int = -1


class Tier(Struct, frozen=True):
    """Use and limits of an account, or of its streams with one number of replicas. Sizes are in bytes."""

    memory: int = 0
    storage: int = 0
    streams: int = 0
    limits: AccountLimits = AccountLimits()


class Api(Struct, frozen=True):
    level: int = 0


class Account(Tier, frozen=True):
    """The answer to `$JS.API.INFO`."""

    domain: str = ""
    api: Api = Api()
    tiers: dict[str, Tier] = field(default_factory=dict)


def decode_account(answer: bytes) -> Account:
    """Decode an answer of the API.

    Raises:
        errors.UnexpectedReplyError: It is another one.
    """
    try:
        return msgspec.json.decode(answer, type=Account)
    except msgspec.DecodeError:
        raise errors.UnexpectedReplyError from None


def account_findings(account: Account, domain: str) -> Iterator[Finding]:
    """Yield findings on the limits of an account.

    Args:
        account: The account as the server describes it.
        domain: The domain that the settings name; "": none.
    """
    where = f"domain {account.domain}" if account.domain else "no domain"
    yield ok("jetstream", f"enabled; {where}, API level {account.api.level}")
    if domain and account.domain and domain != account.domain:
        yield warning("jetstream", f"domain {account.domain} answers, not {domain}", "Correct the domain.")
    for name, tier in (account.tiers or {"": account}).items():
        about = f"jetstream limits {name}".rstrip()
        uses = (
            ("file storage", "bytes", tier.storage, tier.limits.max_storage),
            ("memory", "bytes", tier.memory, tier.limits.max_memory),
            ("streams", "", tier.streams, tier.limits.max_streams),
        )
        for what, unit, used, most in uses:
            yield _use(about, what, unit, used, most)


def _use(about: str, what: str, unit: str, used: int, most: int) -> Finding:
    shown = f"{what}: {used} of {most if most >= 0 else 'unlimited'} {unit}".rstrip()
    advice = "Raise the account's limit, or remove streams that are not needed."
    if most > 0 and used >= most:
        return failed(about, f"{shown}, full", advice)
    if most > 0 and used >= most * NEARLY_FULL:
        return warning(about, f"{shown}, nearly full", advice)
    return ok(about, shown)


def no_room(account: Account, replicas: int, storage: str, max_bytes: int) -> str:
    """Return the reason for which an account has no room for a bucket, or ""."""
    tier = account.tiers.get(f"R{replicas}", Tier()) if account.tiers else account
    used, most = (
        (tier.memory, tier.limits.max_memory) if storage == "memory" else (tier.storage, tier.limits.max_storage)
    )
    if most == 0:
        return f"the account has no {storage} storage"
    if 0 < most < used + max(max_bytes, 1):
        return f"the account has {max(most - used, 0)} bytes of {storage} storage left"
    return ""


class Server(Struct, frozen=True):
    """The server of a connection, by its own word. `time` is its clock, `cluster` the name of its cluster or ""."""

    time: str = ""
    cluster: str = ""


class _User(Struct, frozen=True):
    server: Server = Server()


async def ask_server(connection: Connection, deadline: float) -> tuple[Server, float] | None:
    """Ask the server about itself; return its answer with this machine's time in the middle of the request, in ms.

    Only users without restrictions may ask. `None` for others, and before nats-server 2.10.
    """
    sent = time.time()
    try:
        _, answer = await connection.request(b"$SYS.REQ.USER.INFO", deadline=deadline)
        found = msgspec.json.decode(answer, type=_User).server
    except (errors.NatsError, msgspec.DecodeError):
        return None
    return (found, middle_ms(sent)) if found.time else None


def middle_ms(sent: float) -> float:
    """Return the time between a moment and now, in milliseconds since 1970."""
    return (sent + time.time()) / 2 * 1000


def clock_finding(server: str, own_ms: float) -> Finding:
    """Return a finding on the difference between two clocks.

    Args:
        server: The server's time as it writes it.
        own_ms: This machine's time at the same moment, in milliseconds since 1970.
    """
    difference = int(own_ms - time_ms(server))
    side = "ahead of" if difference > 0 else "behind"
    text = f"this machine is {abs(difference) / 1000:.3f} s {side} the server"
    advice = "Set the clocks by NTP, on this machine or on the server."
    if abs(difference) >= _CLOCK_FAILED_MS:
        return failed(_CLOCK, text, advice)
    if abs(difference) >= _CLOCK_WARNING_MS:
        return warning(_CLOCK, text, advice)
    return ok(_CLOCK, text)
