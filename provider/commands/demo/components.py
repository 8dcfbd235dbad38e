"""A component of wasmCloud 1.x on the bucket of the actors: the nine functions, and calls that the provider refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from contracts import wrpc
from contracts.wrpc import KeyResponse, WrpcCall
from provider.commands.demo.walkthrough import CALLERS, Outcome
from provider.commands.dev_lattice.component import Component
from provider.commands.dev_lattice.dialect import Dialect
from provider.commands.dev_lattice.raw_bucket import RawBucket
from provider.commands.dev_lattice.start import DevLattice, LatticeSettings, running
from provider.commands.errors import CommandError

_B = "default"
"""The name with which the component has opened its store."""

_LARGE = 2**40
"""More than a counter of actors holds."""


class _Step(NamedTuple):
    """One call, its arguments as shown, its expected result, and the expected stored value of `key` after it."""

    call: WrpcCall
    arguments: str
    expected: Any
    key: str
    stored: str | None


_TOTAL = str(CALLERS + 1 + _LARGE)
_STEPS = (
    _Step(wrpc.Set(_B, "photo", b"\xff\xd8"), "photo ff d8", None, "photo", "\ufffd\ufffd"),
    _Step(wrpc.Get(_B, "photo"), "photo", b"\xff\xd8", "photo", "\ufffd\ufffd"),
    _Step(wrpc.Get(_B, "kept"), "kept, of the actor", b"through the crash", "kept", "through the crash"),
    _Step(wrpc.Exists(_B, "kept"), "kept", True, "kept", "through the crash"),
    _Step(wrpc.Increment(_B, "crowd", _LARGE), f"crowd {_LARGE}", int(_TOTAL), "crowd", _TOTAL),
    _Step(wrpc.SetMany(_B, [("c.1", b"one"), ("c.2", b"two")]), "c.1 one, c.2 two", None, "c.2", "two"),
    _Step(wrpc.GetMany(_B, ["c.1", "none"]), "c.1 none", [("c.1", b"one"), None], "none", None),
    _Step(wrpc.DeleteMany(_B, ["c.1", "c.2"]), "c.1 c.2", None, "c.2", None),
    _Step(wrpc.Delete(_B, "kept"), "kept", None, "kept", None),
)


async def show_components(lattice: DevLattice) -> list[Outcome]:
    """Start a provider under a host of 1.x beside that of the actors, and call it as components do."""
    settings = LatticeSettings(
        lattice=lattice.settings.lattice,
        dialect=Dialect.WASMCLOUD1,
        link_values={"BUCKET": lattice.settings.bucket},
        nats_url=lattice.nats_url,
    )
    bucket = RawBucket(lattice.connection, lattice.settings.bucket)
    async with running(settings) as of_components:
        component = Component(of_components.connection, of_components.identity)
        stranger = Component(of_components.connection, replace(of_components.identity, actor_id="stranger"))
        outcomes = [await _run(component, bucket, step) for step in _STEPS]
        outcomes.append(await _listed(component))
        outcomes.append(await _refused(stranger, wrpc.Get(_B, "crowd"), "by a component without a link", "not linked"))
        other = wrpc.Get("other", "crowd")
        outcomes.append(await _refused(component, other, "from a store that is not linked", "no-such-store"))
    return outcomes


async def _run(component: Component, bucket: RawBucket, step: _Step) -> Outcome:
    try:
        result = await component.call(step.call)
    except CommandError as error:
        return Outcome(step.call.function, step.arguments, f"error: {error}", None, False)
    stored = await bucket.value(step.key)
    is_as_promised = (result, stored) == (step.expected, step.stored)
    return Outcome(step.call.function, step.arguments, _shown(result), stored, is_as_promised)


async def _listed(component: Component) -> Outcome:
    page: KeyResponse = await component.call(wrpc.ListKeys(_B, None))
    is_whole = {"photo", "crowd"} <= set(page.keys) and "kept" not in page.keys and page.cursor is None
    return Outcome("list-keys", "", f"{len(page.keys)} keys", None, is_whole)


async def _refused(component: Component, call: WrpcCall, what: str, reason: str) -> Outcome:
    try:
        result = await component.call(call)
    except CommandError as error:
        return Outcome(call.function, what, str(error).partition(" under the")[0], None, reason in str(error))
    return Outcome(call.function, what, _shown(result), None, False)


def _shown(result: Any) -> Any:
    if isinstance(result, list):  # of get-many
        return [f"{pair[0]} {pair[1].decode()}" if pair else "-" for pair in result]
    if isinstance(result, bytes):
        return result.decode() if result.isascii() else result.hex(" ")
    return result
