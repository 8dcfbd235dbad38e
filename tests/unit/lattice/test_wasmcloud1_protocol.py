"""The rules for links, records and configs under hosts of wasmCloud 1.x."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from contracts.codec import MalformedError
from contracts.host import HostData, HostFamily
from contracts.nkeys import KeyKind, encode_seed
from contracts.sealed import SecretBox, encode_secrets
from contracts.secret import Secret
from contracts.wasmcloud1 import Link, LinkRecord, Wasmcloud1, encode_link
from provider import errors
from provider.lattice.protocol import (
    LinkDeleted,
    LinkIgnored,
    LinkPut,
    ShutdownIgnored,
    ShutdownRequested,
)
from provider.lattice.wasmcloud1.protocol import RecordedLink, Wasmcloud1Protocol

HOST_SEED = encode_seed(KeyKind.CURVE, bytes(range(32)))
PROVIDER_SEED = encode_seed(KeyKind.CURVE, bytes(range(1, 33)))
HOST_BOX = SecretBox(HOST_SEED.text, PROVIDER_SEED.public_key)

STORE_KEY = ("comp", "wasi:keyvalue", "default")
NOW, LONG_AGO = 1000.0, 900.0


def host_data(**part: Any) -> HostData:
    keys: dict[str, Any] = {"host_xkey": HOST_SEED.public_key, "provider_xkey_seed": PROVIDER_SEED.text}
    return HostData(
        host_id="NHOST",
        lattice_rpc_prefix="lattice",
        link_name="default",
        provider_key="prov",
        invocation_seed=Secret(""),
        cluster_issuers=[],
        family=HostFamily.WASMCLOUD1,
        wasmcloud1=Wasmcloud1(**(keys | part)),
    )


def link(**changed: Any) -> Link:
    given: dict[str, Any] = {"source_id": "comp", "target": "prov", "wit_namespace": "wasi", "wit_package": "keyvalue"}
    return Link(**(given | changed))


def record(**changed: Any) -> LinkRecord:
    given: dict[str, Any] = {"source_id": "comp", "target": "prov", "wit_namespace": "wasi", "wit_package": "keyvalue"}
    return LinkRecord(**(given | changed))


def sealed(**texts: str) -> bytes:
    return HOST_BOX.seal(encode_secrets({name: Secret(text) for name, text in texts.items()}), secrets.token_bytes(24))


@pytest.fixture
def protocol() -> Wasmcloud1Protocol:
    return Wasmcloud1Protocol(host_data(), lambda: NOW)


# --- links


def test_links_are_put_under_the_curve_key_and_by_1_0_hosts_under_the_id(protocol: Wasmcloud1Protocol) -> None:
    assert protocol.subjects.put_link == f"wasmbus.rpc.lattice.{PROVIDER_SEED.public_key}.linkdefs.put"
    old = Wasmcloud1Protocol(host_data(host_xkey="", provider_xkey_seed=Secret("")), lambda: NOW)
    assert old.subjects.put_link == "wasmbus.rpc.lattice.prov.linkdefs.put"


def test_a_link_takes_the_settings_and_opened_secrets_of_its_target(protocol: Wasmcloud1Protocol) -> None:
    settings = {"BUCKET": "users", "TOKEN": "config"}
    put = link(target_config=settings, source_config={"x": "1"}, target_secrets=sealed(TOKEN="secret"))
    event = protocol.put_link(put)
    assert isinstance(event, LinkPut)
    assert (event.key, event.is_change, event.fault, event.may_watch) == (STORE_KEY, False, "", False)
    assert event.definition.values == {"BUCKET": "users", "TOKEN": "secret"}
    assert "secret'" not in repr(event)


def test_the_same_link_again_is_nothing_and_another_content_is_a_change(protocol: Wasmcloud1Protocol) -> None:
    protocol.put_link(link(target_secrets=sealed(TOKEN="a")))
    assert protocol.put_link(link(target_secrets=sealed(TOKEN="a"))) == LinkIgnored("")
    changed = protocol.put_link(link(target_secrets=sealed(TOKEN="b")))
    assert isinstance(changed, LinkPut)
    assert changed.is_change


def test_links_differ_by_name_and_component(protocol: Wasmcloud1Protocol) -> None:
    for changed in ({}, {"name": "other"}, {"source_id": "comp2"}):
        assert isinstance(protocol.put_link(link(**changed)), LinkPut)
    assert isinstance(protocol.receive_delete_link(encode_link(link(name="other"))), LinkDeleted)
    assert set(protocol.links) == {STORE_KEY, ("comp2", "wasi:keyvalue", "default")}
    assert protocol.receive_delete_link(encode_link(link(name="other"))) == LinkIgnored("")


def test_a_deletion_by_a_host_of_1_0_names_no_target(protocol: Wasmcloud1Protocol) -> None:
    protocol.put_link(link())
    protocol.put_link(link(name="other"))
    command = {"source_id": "comp", "wit_namespace": "wasi", "wit_package": "keyvalue"}
    assert isinstance(protocol.receive_delete_link(json.dumps(command | {"name": "other"}).encode()), LinkDeleted)
    assert set(protocol.links) == {STORE_KEY}
    assert isinstance(protocol.receive_delete_link(json.dumps(command).encode()), LinkDeleted)
    foreign = json.dumps(command | {"wit_package": "blobstore"}).encode()
    assert isinstance(protocol.receive_delete_link(foreign), LinkIgnored)


def test_a_watcher_link_has_the_settings_of_the_provider_as_its_source(protocol: Wasmcloud1Protocol) -> None:
    reverse = link(source_id="prov", target="comp", interfaces=["watcher"], source_config={"WATCH": "a"})
    event = protocol.put_link(reverse)
    assert isinstance(event, LinkPut)
    assert event.key == ("comp", "wasi:keyvalue/watcher", "default")
    assert (event.definition.values, event.may_watch) == ({"WATCH": "a"}, True)
    with pytest.raises(errors.UnlinkedComponentError):
        protocol.link_of_call("comp", "default")


@pytest.mark.parametrize(
    "changed",
    [
        {"target": "other"},
        {"wit_package": "blobstore"},
        {"wit_namespace": "wrpc"},
        {"source_id": "prov", "target": "comp", "interfaces": ["store"]},
    ],
)
def test_a_link_that_is_not_for_this_provider_is_refused_and_deletes_nothing(
    protocol: Wasmcloud1Protocol, changed: dict[str, Any]
) -> None:
    protocol.put_link(link())
    for event in (protocol.put_link(link(**changed)), protocol.receive_delete_link(encode_link(link(**changed)))):
        assert isinstance(event, LinkIgnored)
        assert event.reason
    assert set(protocol.links) == {STORE_KEY}


def test_secrets_that_do_not_open_make_a_link_faulty_until_they_do(protocol: Wasmcloud1Protocol) -> None:
    forger = SecretBox(encode_seed(KeyKind.CURVE, bytes(32)).text, PROVIDER_SEED.public_key)
    forged = forger.seal(encode_secrets({"TOKEN": Secret("evil")}), bytes(24))
    event = protocol.put_link(link(target_secrets=forged))
    assert isinstance(event, LinkPut)
    assert "not sealed by this host" in event.fault
    assert protocol.put_link(link(target_secrets=forged)) == LinkIgnored("")
    healed = protocol.put_link(link(target_secrets=sealed(TOKEN="good")))
    assert isinstance(healed, LinkPut)
    assert healed.fault == ""


def test_malformed_links_are_ignored_with_a_reason(protocol: Wasmcloud1Protocol) -> None:
    for payload in (b"", b"{}", b"[]", b'{"source_id":1}'):
        for event in (protocol.receive_put_link(payload), protocol.receive_delete_link(payload)):
            assert isinstance(event, LinkIgnored)
            assert event.reason


def test_calls_find_their_link_by_source_and_name(protocol: Wasmcloud1Protocol) -> None:
    protocol.put_link(link())
    assert protocol.link_of_call("comp", "default") == STORE_KEY
    for source_id, link_name, error in (
        ("", "default", errors.SourceMissingError),
        ("comp", "other", errors.UnlinkedComponentError),
        ("other", "default", errors.UnlinkedComponentError),
    ):
        with pytest.raises(error):
            protocol.link_of_call(source_id, link_name)


# --- the lattice's records


def test_a_missed_put_is_found_and_takes_its_configs_in_order(protocol: Wasmcloud1Protocol) -> None:
    deleted, wanted = protocol.receive_record("comp", 5, NOW, [record(target_config=["a", "b", "gone"])])
    assert (deleted, wanted) == ([], [RecordedLink(STORE_KEY, ["a", "b", "gone"])])
    event = protocol.put_recorded(wanted[0], {"a": {"BUCKET": "1", "TTL": "1"}, "b": {"BUCKET": "2"}})
    assert isinstance(event, LinkPut)
    assert event.definition.values == {"BUCKET": "2", "TTL": "1"}
    assert protocol.receive_record("comp", 5, NOW, []) == ([], []), "a record that was read before"


def test_a_missed_deletion_is_found_and_a_link_that_no_record_had_stays(protocol: Wasmcloud1Protocol) -> None:
    protocol.put_link(link())
    protocol.receive_record("comp", 5, NOW, [record()])
    protocol.put_link(link(name="new"))
    deleted, wanted = protocol.receive_record("comp", 6, LONG_AGO, [])
    assert [event.key for event in deleted if isinstance(event, LinkDeleted)] == [STORE_KEY]
    assert wanted == []
    assert set(protocol.links) == {("comp", "wasi:keyvalue", "new")}


def test_a_link_that_was_deleted_before_its_put_arrived_is_found(protocol: Wasmcloud1Protocol) -> None:
    protocol.put_link(link())
    assert protocol.unchecked == {"comp"}
    protocol.receive_record("comp", 5, NOW, [record(), record(name="late")])
    assert protocol.unchecked == set()
    # The deletion is heard before the put, which its host makes later of the record before.
    protocol.receive_record("comp", 6, NOW, [record()])
    late = encode_link(link(name="late"))
    assert protocol.receive_delete_link(late) == LinkIgnored("")
    assert isinstance(protocol.receive_put_link(late), LinkPut)
    assert protocol.unchecked == {"comp"}
    deleted, wanted = protocol.receive_record("comp", 6, NOW, [record()])
    assert [event.key for event in deleted if isinstance(event, LinkDeleted)] == [("comp", "wasi:keyvalue", "late")]
    assert wanted == []
    assert protocol.receive_record("comp", 6, NOW, []) == ([], []), "it was checked"


def test_a_link_of_the_host_data_that_was_deleted_while_the_process_started_is_found(
    protocol: Wasmcloud1Protocol,
) -> None:
    protocol.put_link(link())
    deleted, _ = protocol.receive_record("comp", 5, NOW - 3, [])
    assert [event.key for event in deleted if isinstance(event, LinkDeleted)] == [STORE_KEY]


def test_other_names_of_configs_are_a_missed_put_and_other_content_is_not(protocol: Wasmcloud1Protocol) -> None:
    protocol.put_link(link(target_config={"BUCKET": "1"}))
    assert protocol.receive_record("comp", 5, NOW, [record(target_config=["a"])]) == ([], [])
    assert protocol.receive_record("comp", 6, NOW, [record(target_config=["a"])]) == ([], [])
    _, wanted = protocol.receive_record("comp", 7, NOW, [record(target_config=["b"])])
    assert wanted == [RecordedLink(STORE_KEY, ["b"])]
    assert isinstance(protocol.put_recorded(wanted[0], {"b": {"BUCKET": "2"}}), LinkPut)


def test_secrets_are_not_in_records(protocol: Wasmcloud1Protocol) -> None:
    _, wanted = protocol.receive_record("comp", 5, NOW, [record(target_config=["a", "SECRET_token"])])
    event = protocol.put_recorded(wanted[0], {"a": {}})
    assert isinstance(event, LinkPut)
    assert "delete the link and put it again" in event.fault
    known = protocol.put_link(link(target_secrets=sealed(TOKEN="a")))
    assert isinstance(known, LinkPut)
    assert known.fault == ""
    _, wanted = protocol.receive_record("comp", 6, NOW, [record(target_config=["b", "SECRET_token"])])
    assert protocol.put_recorded(wanted[0], {"b": {}}) == LinkIgnored("")


def test_a_record_whose_configs_could_not_be_read_is_read_again(protocol: Wasmcloud1Protocol) -> None:
    first = protocol.receive_record("comp", 5, NOW, [record(target_config=["a"])])
    protocol.forget_record("comp")
    assert protocol.receive_record("comp", 5, NOW, [record(target_config=["a"])]) == first


def test_a_bucket_of_records_that_was_made_anew_is_read_from_its_beginning(protocol: Wasmcloud1Protocol) -> None:
    protocol.receive_record("comp", 5, NOW, [record()])
    protocol.forget_records()
    _, wanted = protocol.receive_record("comp", 1, NOW, [record(name="new")])
    assert wanted == [RecordedLink(("comp", "wasi:keyvalue", "new"), [])]


def test_the_watcher_links_are_in_the_record_of_the_provider(protocol: Wasmcloud1Protocol) -> None:
    reverse = record(source_id="prov", target="comp", interfaces=["watcher"], source_config=["w"])
    _, wanted = protocol.receive_record("prov", 5, NOW, [reverse])
    assert wanted == [RecordedLink(("comp", "wasi:keyvalue/watcher", "default"), ["w"])]
    protocol.put_recorded(wanted[0], {"w": {"WATCH": "a"}})
    deleted, _ = protocol.receive_record("prov", 6, NOW, [])
    assert isinstance(deleted[0], LinkDeleted)


# --- config, health and shutdown


def test_a_config_replaces_the_whole_one_and_the_same_is_nothing() -> None:
    protocol = Wasmcloud1Protocol(host_data(config={"A": "1", "B": "2"}, secrets={"A": Secret("s")}), lambda: NOW)
    assert protocol.receive_config(b'{"A":"1","B":"2"}') is None
    settings = protocol.receive_config(b'{"C":"3"}')
    assert settings is not None
    assert json.loads(settings.reveal()) == {"C": "3", "A": "s"}
    assert protocol.receive_config(b'{"C":"3"}') is None
    with pytest.raises(MalformedError):
        protocol.receive_config(b'{"C":3}')


def test_health_is_json_and_shutdown_is_for_this_host_only(protocol: Wasmcloud1Protocol) -> None:
    assert json.loads(protocol.health(None, None)) == {"healthy": True}
    assert json.loads(protocol.health("bad", "also")) == {"healthy": False, "message": "bad; also"}
    assert protocol.receive_shutdown(b'{"host_id":"NHOST"}') == ShutdownRequested()
    for payload in (b'{"host_id":"NOTHER"}', b"", b"{}"):
        assert protocol.receive_shutdown(payload) == ShutdownIgnored()
