"""The table of links, and the invocations that it admits."""

from __future__ import annotations

import base64
import json

import msgpack
import pytest

from contracts.host import TEST_HOST_ID, HostData, HostFamily
from contracts.lattice import Invocation, LinkDefinition, WasmCloudEntity, encode_invocation, encode_link_definition
from contracts.secret import Secret
from contracts.tokens import InvocationClaims, Token
from provider import errors
from provider.lattice.claims import ClaimsVerifier
from provider.lattice.protocol import (
    InvocationAccepted,
    InvocationRefused,
    LatticeProtocol,
    LinkDeleted,
    LinkIgnored,
    LinkPut,
    ShutdownIgnored,
    ShutdownRequested,
)
from provider.lattice.seen_ids import SeenIds

NOW = 1000.0
TARGET = WasmCloudEntity("VPROVIDER", "default", "wasmcloud:keyvalue")


class TrustingVerifier(ClaimsVerifier):
    """A verifier that accepts every signature and every claim."""

    def __init__(self) -> None:
        super().__init__([])

    def is_signed(self, token: Token[InvocationClaims]) -> bool:
        del token
        return True

    def judge(
        self, invocation: Invocation, token: Token[InvocationClaims], is_signed: bool, now: float
    ) -> InvocationClaims:
        del invocation, is_signed, now
        return token.claims


def host_data(family: HostFamily = HostFamily.RUST, host_id: str = "NHOST") -> HostData:
    return HostData(
        host_id=host_id,
        lattice_rpc_prefix="default",
        link_name="default",
        provider_key="VPROVIDER",
        invocation_seed=Secret("S"),
        cluster_issuers=["C"],
        family=family,
    )


def definition(**change: object) -> LinkDefinition:
    fields = {"actor_id": "MA", "provider_id": "VPROVIDER", "link_name": "default", "contract_id": "wasmcloud:keyvalue"}
    return LinkDefinition(**(fields | {"values": {"BUCKET": "one"}} | change))  # type: ignore[arg-type]


@pytest.fixture
def protocol() -> LatticeProtocol:
    return LatticeProtocol(host_data(), TrustingVerifier(), SeenIds(120, 1000))


def token(sub: str) -> str:
    def segment(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    claims = json.dumps({"jti": "j", "iat": int(NOW), "iss": "C", "sub": sub}).encode()
    header = segment(b'{"typ":"jwt","alg":"Ed25519"}')
    return f"{header}.{segment(claims)}.{segment(bytes(64))}"


def call(
    protocol: LatticeProtocol,
    *,
    invocation_id: str = "1",
    actor: str = "MA",
    target: WasmCloudEntity = TARGET,
    sub: str | None = None,
) -> InvocationAccepted | InvocationRefused:
    invocation = Invocation(
        origin=WasmCloudEntity(actor),
        target=target,
        operation="KeyValue.Get",
        msg=b"",
        id=invocation_id,
        encoded_claims=token(invocation_id if sub is None else sub),
        host_id="N",
        content_length=0,
    )
    return protocol.receive_invocation(encode_invocation(invocation), NOW)


def denial(event: InvocationAccepted | InvocationRefused) -> type[errors.InvocationError]:
    assert isinstance(event, InvocationRefused)
    return type(event.error)


def test_a_link_is_put_once_changed_deleted_and_put_again(protocol: LatticeProtocol) -> None:
    put = encode_link_definition(definition())
    changed = encode_link_definition(definition(values={"BUCKET": "two"}))
    first = protocol.receive_put_link(put)
    assert isinstance(first, LinkPut)
    assert not first.is_change
    assert protocol.receive_put_link(put) == LinkIgnored("")
    second = protocol.receive_put_link(changed)
    assert isinstance(second, LinkPut)
    assert second.is_change
    assert isinstance(protocol.receive_delete_link(changed), LinkDeleted)
    assert protocol.receive_delete_link(changed) == LinkIgnored("")
    assert isinstance(protocol.receive_put_link(put), LinkPut)


def test_deleting_one_link_of_an_actor_leaves_the_other(protocol: LatticeProtocol) -> None:
    protocol.put_definition(definition())
    protocol.put_definition(definition(contract_id="other:contract"))
    protocol.delete_definition(definition(contract_id="other:contract"))
    assert isinstance(call(protocol), InvocationAccepted)
    target = WasmCloudEntity("VPROVIDER", "default", "other:contract")
    assert denial(call(protocol, invocation_id="2", target=target)) is errors.ContractMismatchError


@pytest.mark.parametrize("change", [{"provider_id": "VOTHER"}, {"link_name": "other"}])
def test_a_link_of_another_provider_is_ignored_with_a_reason(protocol: LatticeProtocol, change: dict[str, str]) -> None:
    event = protocol.receive_put_link(encode_link_definition(definition(**change)))
    assert isinstance(event, LinkIgnored)
    assert event.reason


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"{}", b"\x80", b"\x91" * 999])
def test_garbage_about_links_is_ignored_with_a_reason(protocol: LatticeProtocol, payload: bytes) -> None:
    for event in (protocol.receive_put_link(payload), protocol.receive_delete_link(payload)):
        assert isinstance(event, LinkIgnored)
        assert event.reason


def test_a_record_that_names_another_provider_drops_the_link(protocol: LatticeProtocol) -> None:
    protocol.put_definition(definition())
    record = json.loads(encode_link_definition(definition(provider_id="VOTHER"), is_json=True))
    assert isinstance(protocol.receive_metadata(record, is_deleted=False), LinkDeleted)
    assert isinstance(protocol.receive_metadata(record, is_deleted=False), LinkIgnored)


def test_a_record_puts_and_its_deletion_deletes(protocol: LatticeProtocol) -> None:
    record = json.loads(encode_link_definition(definition(), is_json=True))
    assert isinstance(protocol.receive_metadata(record | {"id": "X"}, is_deleted=False), LinkPut)
    assert isinstance(protocol.forget_hash(definition().hash_id), LinkDeleted)
    assert protocol.forget_hash(definition().hash_id) == LinkIgnored("")
    assert isinstance(protocol.receive_metadata(record, is_deleted=False), LinkPut)
    assert isinstance(protocol.receive_metadata(record | {"deleted": True}, is_deleted=True), LinkDeleted)
    assert isinstance(protocol.receive_metadata([1], is_deleted=False), LinkIgnored)


def test_an_actor_is_accepted_by_its_link(protocol: LatticeProtocol) -> None:
    assert denial(call(protocol)) is errors.UnlinkedActorError
    protocol.put_definition(definition())
    assert isinstance(call(protocol), InvocationAccepted)
    assert denial(call(protocol)) is errors.ReplayedError
    assert denial(call(protocol, invocation_id="2", sub="3")) is errors.SubjectMismatchError
    assert denial(call(protocol, invocation_id="4", actor="MB")) is errors.UnlinkedActorError


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (WasmCloudEntity("VOTHER", "default", "wasmcloud:keyvalue"), errors.TargetKeyMismatchError),
        (WasmCloudEntity("VPROVIDER", "other", "wasmcloud:keyvalue"), errors.LinkNameMismatchError),
        (WasmCloudEntity("VPROVIDER", "default", "wasmcloud:messaging"), errors.ContractMismatchError),
    ],
)
def test_a_call_to_another_target_is_denied(
    protocol: LatticeProtocol, target: WasmCloudEntity, reason: type[errors.InvocationError]
) -> None:
    protocol.put_definition(definition())
    assert denial(call(protocol, target=target)) is reason


def test_a_target_may_leave_contract_and_link_name_out(protocol: LatticeProtocol) -> None:
    protocol.put_definition(definition())
    assert isinstance(call(protocol, target=WasmCloudEntity("VPROVIDER")), InvocationAccepted)


def test_a_refused_call_does_not_use_up_its_id(protocol: LatticeProtocol) -> None:
    call(protocol)
    protocol.put_definition(definition())
    assert isinstance(call(protocol), InvocationAccepted)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x80", msgpack.packb({"id": "7", "msg": 1})])
def test_garbage_is_refused_with_the_id_when_there_is_one(protocol: LatticeProtocol, payload: bytes) -> None:
    event = protocol.receive_invocation(payload, NOW)
    assert denial(event) is errors.MalformedInvocationError
    assert isinstance(event, InvocationRefused)
    assert event.invocation_id == ("7" if b"7" in payload else "")


def test_only_its_own_host_may_shut_a_provider_down(protocol: LatticeProtocol) -> None:
    assert isinstance(protocol.receive_shutdown(b'{"host_id": "NHOST"}'), ShutdownRequested)
    for payload in (b'{"host_id": "NOTHER"}', b'{"host_id": ""}', b"", b"[]", b"\xff", b'{"host_id": 1}'):
        assert isinstance(protocol.receive_shutdown(payload), ShutdownIgnored)


def test_the_test_harness_speaks_json() -> None:
    protocol = LatticeProtocol(host_data(HostFamily.TEST_HARNESS, TEST_HOST_ID), TrustingVerifier(), None)
    assert json.loads(protocol.health("down", None)) == {"healthy": False, "message": "down"}
    assert isinstance(protocol.receive_put_link(encode_link_definition(definition(), is_json=True)), LinkPut)
    assert isinstance(protocol.receive_shutdown(b'{"host_id": "_TEST_"}'), ShutdownRequested)


def test_health_is_messagepack_for_hosts(protocol: LatticeProtocol) -> None:
    assert msgpack.unpackb(protocol.health(None, None)) == {"healthy": True}
    assert msgpack.unpackb(protocol.health("down", "busy")) == {"healthy": False, "message": "down; busy"}
    assert msgpack.unpackb(protocol.health(None, "busy")) == {"healthy": True, "message": "busy"}
