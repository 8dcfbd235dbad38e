"""The promises about one provider, shown and checked: its answers, the stored values, and the calls that it refuses."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from contracts import keyvalue
from contracts.keyvalue import GetResponse, Request
from contracts.lattice import Invocation
from contracts.nkeys import KeyKind
from contracts.tokens import decode_token
from provider.commands.dev_lattice.actor import with_payload
from provider.commands.dev_lattice.locks import is_running
from provider.commands.dev_lattice.raw_bucket import RawBucket
from provider.commands.dev_lattice.start import DevLattice
from provider.commands.errors import CallFailedError, CommandError
from provider.commands.minting import TokenMinter, make_seed

CALLERS = 64
"""Enough to make most increments collide without batching."""

_ABSENT = None


@dataclass(frozen=True)
class Step:
    """One operation, its expected answer, and the expected stored value of `key` after it.

    The order of a list matters, that of a set does not.
    """

    request: Request
    expected: Any
    key: str
    stored: str | list[str] | None


@dataclass(frozen=True)
class Outcome:
    """One row of the demonstration."""

    what: str
    argument: str
    result: Any
    stored: str | None
    is_as_promised: bool


STEPS = (
    Step(keyvalue.Set("user:1", "Ann", 60), None, "user:1", "Ann"),
    Step(keyvalue.Get("user:1"), GetResponse("Ann", True), "user:1", "Ann"),
    Step(keyvalue.Contains("user:1"), True, "user:1", "Ann"),
    Step(keyvalue.Increment("visits", 5), 5, "visits", "5"),
    Step(keyvalue.Increment("visits", -2), 3, "visits", "3"),
    Step(keyvalue.ListAdd("jobs", "wash"), 1, "jobs", ["wash"]),
    Step(keyvalue.ListAdd("jobs", "dry"), 2, "jobs", ["wash", "dry"]),
    Step(keyvalue.ListRange("jobs", 0, -1), ["wash", "dry"], "jobs", ["wash", "dry"]),
    Step(keyvalue.ListDel("jobs", "wash"), True, "jobs", ["dry"]),
    Step(keyvalue.ListClear("jobs"), True, "jobs", _ABSENT),
    Step(keyvalue.SetAdd("red", "apple"), 1, "red", ["apple"]),
    Step(keyvalue.SetAdd("red", "cherry"), 1, "red", ["apple", "cherry"]),
    Step(keyvalue.SetAdd("green", "apple"), 1, "green", ["apple"]),
    Step(keyvalue.SetQuery("red"), ["apple", "cherry"], "red", ["apple", "cherry"]),
    Step(keyvalue.SetUnion(["red", "green"]), ["apple", "cherry"], "red", ["apple", "cherry"]),
    Step(keyvalue.SetIntersection(["red", "green"]), ["apple"], "green", ["apple"]),
    Step(keyvalue.SetDel("red", "apple"), 1, "red", ["cherry"]),
    Step(keyvalue.SetClear("green"), True, "green", _ABSENT),
    Step(keyvalue.Del("user:1"), True, "user:1", _ABSENT),
)


class Walkthrough:
    """The parts of the demonstration that run on a lattice with one provider."""

    def __init__(self, lattice: DevLattice) -> None:
        self._lattice = lattice
        self._actor = lattice.actor
        self._bucket = RawBucket(lattice.connection, lattice.settings.bucket)

    async def operations(self) -> list[Outcome]:
        """Run all fifteen operations, some twice, and read the bucket after each."""
        return [await self._run(step) for step in STEPS]

    async def crowd(self) -> Outcome:
        """Increment one counter from many callers concurrently: every total must be returned exactly once."""
        totals = await asyncio.gather(*(self._actor.call(keyvalue.Increment("crowd", 1)) for _ in range(CALLERS)))
        stored = await self._bucket.value("crowd")
        is_exact = sorted(totals) == list(range(1, CALLERS + 1)) and stored == str(CALLERS)
        result = f"totals {min(totals)} to {max(totals)}, {len(set(totals))} different"
        return Outcome(f"{CALLERS} x Increment", "crowd 1", result, stored, is_exact)

    async def forgeries(self) -> list[Outcome]:
        """Send forged invocations. Each must be refused with its own reason and change nothing."""
        request = keyvalue.Set("forged", "x", 0)
        own = self._actor.sign
        stranger = TokenMinter(make_seed(KeyKind.CLUSTER))
        replayed = own(keyvalue.Contains("forged"))
        await self._actor.send(replayed)
        return [
            await self._refused("signed with another key", _signed_again(own(request), stranger), "signature"),
            await self._refused("issued by another cluster", _issued_by(own(request), stranger), "issuer"),
            await self._refused("payload altered", with_payload(own(request), keyvalue.Set("forged", "y", 0)), "hash"),
            await self._refused("sent a second time", replayed, "used before"),
        ]

    async def restart(self) -> list[Outcome]:
        """Kill the provider, as a crash would. Acknowledged writes must survive."""
        await self._actor.call(keyvalue.Set("kept", "through the crash", 0))
        host = self._lattice.hosts[0]
        before = host.provider.pid
        await host.crash_and_restart()
        await host.provider.wait_for("link_opened")
        killed = Outcome(
            "SIGKILL, restart", "", f"process {before} -> {host.provider.pid}", None, not is_running(before)
        )
        kept = Step(keyvalue.Get("kept"), GetResponse("through the crash", True), "kept", "through the crash")
        counted = Step(keyvalue.Increment("crowd", 1), CALLERS + 1, "crowd", str(CALLERS + 1))
        return [killed, await self._run(kept), await self._run(counted)]

    async def stop(self) -> Outcome:
        """Ask the provider to shut down, as a host does. It must exit with code 0."""
        host = self._lattice.hosts[0]
        pid = host.provider.pid
        code = await host.shut_down()
        return Outcome("shutdown", "", f"exit code {code}", None, code == 0 and not is_running(pid))

    async def _run(self, step: Step) -> Outcome:
        name = type(step.request).__name__
        arguments = _typed(step.request)
        try:
            result = await self._actor.call(step.request)
        except CommandError as error:
            return Outcome(name, arguments, f"error: {error}", None, False)
        stored = await self._bucket.value(step.key)
        has_order = not name.startswith("Set")
        is_as_promised = _is_same(result, step.expected, has_order) and _is_stored(stored, step.stored, has_order)
        return Outcome(name, arguments, result, stored, is_as_promised)

    async def _refused(self, what: str, invocation: Invocation, reason: str) -> Outcome:
        try:
            await self._actor.send(invocation)
        except CallFailedError as error:
            stored = await self._bucket.value("forged")
            return Outcome(what, "", str(error), stored, reason in str(error).lower() and stored is None)
        except CommandError as error:
            return Outcome(what, "", f"not answered: {error}", None, False)
        return Outcome(what, "", "served", await self._bucket.value("forged"), False)


def _signed_again(invocation: Invocation, issuer: TokenMinter) -> Invocation:
    """Sign the same claims with another key. They still name the lattice's own issuer."""
    return structs.replace(invocation, encoded_claims=issuer.mint(_claims(invocation)))


def _issued_by(invocation: Invocation, issuer: TokenMinter) -> Invocation:
    """Sign correctly, but with a key that this lattice does not know."""
    claims = _claims(invocation) | {"iss": issuer.public_key}
    return structs.replace(invocation, encoded_claims=issuer.mint(claims))


def _claims(invocation: Invocation) -> dict[str, Any]:
    claims: dict[str, Any] = decode_token(invocation.encoded_claims, json.loads).claims
    return claims


def _typed(request: Request) -> str:
    """Return the arguments of a request as they are typed for `keyvalue-nats call`."""
    typed: list[str] = []
    for name, value in structs.asdict(request).items():
        words = value if isinstance(value, list) else [str(value)]
        typed += ["--expires", *words] if name == "expires" else words
    return " ".join(typed)


def _is_same(found: Any, expected: Any, has_order: bool) -> bool:
    if isinstance(found, list) and isinstance(expected, list) and not has_order:
        return sorted(found) == sorted(expected)
    return bool(found == expected)


def _is_stored(found: str | None, expected: str | list[str] | None, has_order: bool) -> bool:
    if isinstance(expected, list):
        return found is not None and _is_same(json.loads(found), expected, has_order)
    return found == expected
