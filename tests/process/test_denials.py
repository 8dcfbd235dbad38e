"""Every reason to refuse an invocation: the answer names it, and nothing changes. One provider per host family."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
import pytest_asyncio

from tests.blackbox.host_families import FAMILIES, OTP, RUST, HostFamily
from tests.blackbox.invocation_claims import HEADER, invocation_claims, sign
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.nats.nats_server import NatsServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATION = "KeyValue.Set"
KEY = "guarded"
ARGUMENT = msgpack.packb({"key": KEY, "value": "forged", "expires": 0})

Linked = tuple[LatticeHost, str]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def serving(
    nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Linked]]:
    """Start a provider for each family, each with a linked actor."""
    async with AsyncExitStack() as stack:
        started = {}
        for family in FAMILIES:
            folder = tmp_path_factory.mktemp(family.name)
            host = await stack.enter_async_context(LatticeHost(family, nats_server.url, folder))
            actor = host.actor()
            await host.start_provider([host.link(actor)])
            started[family.name] = (host, actor)
        yield started


@pytest.fixture
def linked(serving: dict[str, Linked], family: HostFamily) -> Linked:
    return serving[family.name]


@dataclass(frozen=True)
class Forgery:
    """An invocation that must not be served. The answer has the `reason`, in lower case."""

    name: str
    reason: str
    make: Callable[[LatticeHost, str], dict[str, Any]]


def claims(**changed: Any) -> Callable[[LatticeHost, str], dict[str, Any]]:
    return lambda host, actor: host.invocation(actor, OPERATION, ARGUMENT, claims=changed)


def sent(**changed: Any) -> Callable[[LatticeHost, str], dict[str, Any]]:
    return lambda host, actor: host.invocation(actor, OPERATION, ARGUMENT, **changed)


def lately(seconds: int, name: str) -> Callable[[LatticeHost, str], dict[str, Any]]:
    return lambda host, actor: host.invocation(actor, OPERATION, ARGUMENT, claims={name: int(time.time()) + seconds})


def wascap(**changed: str) -> Callable[[LatticeHost, str], dict[str, Any]]:
    """Sign metadata that differs from the message."""

    def make(host: LatticeHost, actor: str) -> dict[str, Any]:
        invocation = host.invocation(actor, OPERATION, ARGUMENT)
        signed = invocation_claims(
            host.family.issuer(host.who).public,
            invocation["id"],
            invocation["origin"],
            invocation["target"],
            OPERATION,
            ARGUMENT,
        )
        signed["wascap"] |= changed
        return invocation | {"encoded_claims": sign(signed, host.family.issuer(host.who))}

    return make


def signed_for(target: dict[str, str] | None = None, origin: dict[str, str] | None = None) -> Any:
    """Sign an invocation that is consistent, but has another origin or target."""

    def make(host: LatticeHost, actor: str) -> dict[str, Any]:
        invocation = host.invocation(actor, OPERATION, ARGUMENT)
        invocation["target"] = invocation["target"] | (target or {})
        invocation["origin"] = invocation["origin"] | (origin or {})
        issuer = host.family.issuer(host.who)
        signed = invocation_claims(
            issuer.public, invocation["id"], invocation["origin"], invocation["target"], OPERATION, ARGUMENT
        )
        return invocation | {"encoded_claims": sign(signed, issuer)}

    return make


def unknown_issuer(host: LatticeHost, actor: str) -> dict[str, Any]:
    stranger = KeyPair.generate("C")
    return host.invocation(actor, OPERATION, ARGUMENT, claims={"iss": stranger.public}, key=stranger)


def altered_signature(host: LatticeHost, actor: str) -> dict[str, Any]:
    invocation = host.invocation(actor, OPERATION, ARGUMENT)
    head, _, signature = invocation["encoded_claims"].rpartition(".")
    return invocation | {"encoded_claims": f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"}


def with_header(**header: str) -> Callable[[LatticeHost, str], dict[str, Any]]:
    def make(host: LatticeHost, actor: str) -> dict[str, Any]:
        invocation = host.invocation(actor, OPERATION, ARGUMENT)
        issuer = host.family.issuer(host.who)
        signed = invocation_claims(
            issuer.public, invocation["id"], invocation["origin"], invocation["target"], OPERATION, ARGUMENT
        )
        return invocation | {"encoded_claims": sign(signed, issuer, HEADER | header)}

    return make


def del_instead(host: LatticeHost, actor: str) -> dict[str, Any]:
    return host.invocation(actor, OPERATION, msgpack.packb(KEY)) | {"operation": "KeyValue.Del"}


OTHER_ARGUMENT = msgpack.packb({"key": KEY, "value": "altered", "expires": 0})

FORGERIES = [
    Forgery(
        "signed with another key",
        "signature",
        lambda host, actor: host.invocation(actor, OPERATION, ARGUMENT, key=KeyPair.generate("C")),
    ),
    Forgery("an altered signature", "signature", altered_signature),
    Forgery("an unknown issuer", "issuer", unknown_issuer),
    Forgery("an issuer that is no key", "malformed", claims(iss="nobody")),
    Forgery("another payload than was signed", "hash", sent(msg=OTHER_ARGUMENT, content_length=len(OTHER_ARGUMENT))),
    Forgery("an empty payload where one was signed", "hash", sent(msg=b"", content_length=0)),
    Forgery("another operation than was signed", "", del_instead),
    Forgery("another hash", "hash", wascap(hash="0" * 64)),
    Forgery("another signed target", "target url", wascap(target_url="wasmbus://elsewhere")),
    Forgery("another signed origin", "origin url", wascap(origin_url="wasmbus://MELSEWHERE")),
    Forgery("no wascap metadata", "wascap", claims(wascap=None)),
    Forgery("an expired token", "expired", lately(-1, "exp")),
    Forgery("a token that is not yet valid", "before", lately(60, "nbf")),
    Forgery("a token issued too long ago", "seconds ago", lately(-600, "iat")),
    Forgery("a token issued far ahead", "seconds ahead", lately(600, "iat")),
    Forgery("no time of issue", "malformed", claims(iat=None)),
    Forgery("no subject", "malformed", claims(sub=None)),
    Forgery("the subject of another invocation", "subject", claims(sub=str(uuid.uuid4()))),
    Forgery("the token of another invocation", "subject", sent(id=str(uuid.uuid4()))),
    Forgery("another provider's key", "not this provider", signed_for({"public_key": KeyPair.generate("V").public})),
    Forgery(
        "an actor that is not linked", "unlinked actor", signed_for(origin={"public_key": KeyPair.generate("M").public})
    ),
    Forgery("another link name", "link name", signed_for({"link_name": "elsewhere"})),
    Forgery("another contract", "contract", signed_for({"contract_id": "wasmcloud:messaging"})),
    Forgery("a host id that is none", "host id", sent(host_id="X1")),
    Forgery("an empty host id", "host id", sent(host_id="")),
    Forgery("a token of two parts", "malformed", sent(encoded_claims="a.b")),
    Forgery("an empty token", "malformed", sent(encoded_claims="")),
    Forgery("a token of no base64", "malformed", sent(encoded_claims="!.!.!")),
    Forgery("a token without a signature", "malformed", sent(encoded_claims="e30.e30.")),
    Forgery("no algorithm", "malformed", with_header(alg="none")),
    Forgery("another algorithm", "malformed", with_header(alg="HS256")),
    Forgery("another type", "malformed", with_header(typ="x")),
]


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
async def test_a_forgery_is_refused_with_its_reason_and_changes_nothing(linked: Linked, forgery: Forgery) -> None:
    host, actor = linked
    await host.set(actor, KEY, "genuine")
    response = await host.invoke(forgery.make(host, actor), 2)
    assert response.error is not None
    assert forgery.reason in response.error.lower(), response.error
    assert response.msg == b""
    assert await host.get(actor, KEY) == "genuine"


async def test_an_invocation_that_is_sent_many_times_is_served_once(linked: Linked) -> None:
    host, actor = linked
    key = f"replayed-{uuid.uuid4()}"
    invocation = host.invocation(actor, "KeyValue.Increment", msgpack.packb({"key": key, "value": 1}))
    assert (await host.invoke(invocation)).error is None
    for _ in range(3):
        again = await host.invoke(invocation)
        assert again.error is not None
        assert "used before" in again.error
    assert await host.get(actor, key) == "1"


async def test_the_id_of_a_refused_invocation_can_still_be_used_by_its_owner(linked: Linked) -> None:
    host, actor = linked
    genuine = host.invocation(actor, OPERATION, msgpack.packb({"key": KEY, "value": "mine", "expires": 0}))
    forged = host.invocation(actor, OPERATION, ARGUMENT, key=KeyPair.generate("C"), claims={"sub": genuine["id"]})
    assert (await host.invoke(forged | {"id": genuine["id"]})).error is not None
    assert (await host.invoke(genuine)).error is None


@pytest.mark.parametrize("family", [OTP, RUST], ids=["otp", "rust"], indirect=True)
async def test_a_target_without_a_contract_is_served(linked: Linked) -> None:
    host, actor = linked
    response = await host.invoke(signed_for({"contract_id": ""})(host, actor))
    assert response.error is None


async def test_times_within_the_tolerance_are_accepted(linked: Linked) -> None:
    host, actor = linked
    for name, seconds in (("iat", -60), ("iat", 60), ("exp", 60), ("nbf", -60)):
        response = await host.invoke(lately(seconds, name)(host, actor))
        assert response.error is None, (name, seconds)


@pytest.mark.parametrize("field", ["origin", "target", "operation", "msg", "id", "encoded_claims", "host_id"])
async def test_a_missing_field_is_an_error_with_its_name(linked: Linked, field: str) -> None:
    host, actor = linked
    await host.set(actor, KEY, "genuine")
    invocation = host.invocation(actor, OPERATION, ARGUMENT)
    broken = {name: value for name, value in invocation.items() if name != field}
    reply = await host.client.request(host.subject, msgpack.packb(broken), timeout=2)
    response = await host.read(reply.data, invocation["id"] if field != "id" else "")
    assert response.error is not None
    assert field in response.error
    assert await host.get(actor, KEY) == "genuine"


WRONG_ARGUMENTS = [
    ("KeyValue.Nothing", "k", "unknown operation"),
    ("Get", "k", "unknown operation"),
    ("keyvalue.get", "k", "unknown operation"),
    ("", "k", "unknown operation"),
    ("KeyValue.Get", "", "key is empty"),
    ("KeyValue.Get", 5, "argument"),
    ("KeyValue.Get", {"key": "k"}, "argument"),
    ("KeyValue.Set", {"key": KEY, "value": "v"}, "expires"),
    ("KeyValue.Set", {"key": KEY, "expires": 0}, "value"),
    ("KeyValue.Set", {"key": KEY, "value": 5, "expires": 0}, "value"),
    ("KeyValue.Set", {"key": KEY, "value": "v", "expires": -1}, "expires"),
    ("KeyValue.Set", {"key": KEY, "value": "v", "expires": 2**32}, "expires"),
    ("KeyValue.Increment", {"key": "n", "value": 2**31}, "value"),
    ("KeyValue.Increment", {"key": "n", "value": "1"}, "value"),
    ("KeyValue.Increment", {"key": "n", "value": 1.5}, "value"),
    ("KeyValue.Increment", {"key": KEY, "value": 1}, "number"),
    ("KeyValue.ListAdd", {"list_name": "l", "value": "v"}, "listName"),
    ("KeyValue.ListAdd", {"listName": KEY, "value": "v"}, "holds a"),
    ("KeyValue.SetAdd", {"set_name": "s", "value": "v"}, "setName"),
    ("KeyValue.SetQuery", KEY, "holds a"),
    ("KeyValue.SetUnion", [KEY], "holds a"),
    ("KeyValue.SetUnion", "k", "argument"),
    ("KeyValue.Get", "k" * 4000, "too long"),
]


@pytest.mark.parametrize(
    ("operation", "argument", "reason"),
    WRONG_ARGUMENTS,
    ids=[f"{operation} {argument!s:.30}" for operation, argument, _ in WRONG_ARGUMENTS],
)
async def test_an_invalid_argument_is_an_error_and_changes_nothing(
    linked: Linked, operation: str, argument: Any, reason: str
) -> None:
    host, actor = linked
    await host.set(actor, KEY, "genuine")
    response = await host.invoke(host.invocation(actor, operation, msgpack.packb(argument)))
    assert response.error is not None
    assert reason in response.error, response.error
    assert await host.get(actor, KEY) == "genuine"
