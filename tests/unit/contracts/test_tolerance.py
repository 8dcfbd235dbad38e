"""Differences between hosts are understood. Malformed data is an error that does not show the data."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import codec, extensions, host, keyvalue, lattice, operations
from contracts.codec import MalformedError
from contracts.integers import I32_MAX, I32_MIN, U32_MAX
from contracts.secret import Secret

REQUIRED = {
    "host_id": "NHOST",
    "lattice_rpc_prefix": "default",
    "link_name": "default",
    "provider_key": "VPROVIDER",
    "invocation_seed": "SCSEED-OF-THE-CLUSTER",
    "cluster_issuers": ["CISSUER"],
}
ENTITY = {"public_key": "M", "link_name": "", "contract_id": ""}
INVOCATION = {
    "origin": ENTITY,
    "target": {"public_key": "V", "link_name": "default", "contract_id": "wasmcloud:keyvalue"},
    "operation": "KeyValue.Get",
    "msg": b"\xa3foo",
    "id": "1",
    "encoded_claims": "a.b.c",
    "host_id": "N",
    "content_length": 4,
}
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def line(values: dict[str, Any], end: bytes = b"\n", *, is_padded: bool = True) -> bytes:
    encoded = base64.b64encode(json.dumps(values).encode())
    return (encoded if is_padded else encoded.rstrip(b"=")) + end


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("is_padded", [True, False])
def test_host_data_comes_with_any_line_end_and_padding(end: bytes, is_padded: bool) -> None:
    for filler in ("", "x", "xx"):
        data = line(REQUIRED | {"instance_id": filler}, end, is_padded=is_padded)
        assert host.decode_host_data(data).instance_id == filler


@pytest.mark.parametrize("given_config", [{}, {"config_json": None}, {"config_json": ""}])
def test_no_config_is_missing_null_or_empty(given_config: dict[str, Any]) -> None:
    assert not host.decode_host_data(line(REQUIRED | given_config)).config_json


def test_unknown_keys_and_camel_case_are_understood() -> None:
    values = {("hostId" if key == "host_id" else key): value for key, value in REQUIRED.items()}
    assert host.decode_host_data(line(values | {"whatever": {"deep": [1]}})).host_id == "NHOST"


@pytest.mark.parametrize("tls", [0, 1, True, False, None])
def test_tls_is_a_number_or_a_boolean(tls: object) -> None:
    assert host.decode_host_data(line(REQUIRED | {"lattice_rpc_tls": tls})).lattice_rpc_tls is (tls in (1, True))


def test_the_test_harness_is_recognized_by_its_host_id() -> None:
    nulls = {"default_rpc_timeout_ms": None, "log_level": None, "otel_config": None}
    host_data = host.decode_host_data(line(REQUIRED | nulls | {"host_id": "_TEST_"}))
    assert host_data.family is host.HostFamily.TEST_HARNESS
    assert host_data.default_rpc_timeout_ms == 2000


@pytest.mark.parametrize("name", list(REQUIRED))
def test_a_missing_field_of_host_data_is_named(name: str) -> None:
    with pytest.raises(MalformedError, match=name):
        host.decode_host_data(line({key: value for key, value in REQUIRED.items() if key != name}))


@pytest.mark.parametrize(
    "change", [{"cluster_issuers": []}, {"link_name": ""}, {"link_name": "a b"}, {"lattice_rpc_prefix": ">"}]
)
def test_host_data_that_cannot_work_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        host.decode_host_data(line(REQUIRED | change))


@given(st.binary(max_size=200) | plain.map(lambda value: line({"x": repr(value)})))
def test_garbage_on_standard_input_is_an_error_that_does_not_show_it(data: bytes) -> None:
    with pytest.raises(MalformedError):
        host.decode_host_data(data)


def test_secrets_never_show() -> None:
    link = {
        "actor_id": "M",
        "provider_id": "V",
        "link_name": "x",
        "contract_id": "c",
        "values": {"PASSWORD": "hunter2"},
    }
    values = REQUIRED | {"config_json": '{"TOKEN": "hunter2"}', "link_definitions": [link]}
    host_data = host.decode_host_data(line(values))
    for shown in (
        repr(host_data),
        str(host_data),
        f"{host_data}",
        repr(host_data.invocation_seed),
        str(Secret("hunter2")),
    ):
        assert "hunter2" not in shown
        assert "SCSEED" not in shown


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"msg": "\xa3foo"},
        {"msg": list(b"\xa3foo")},
        {"traceContext": {}},
        {"traceContext": None},
        {"content_length": None},
        {"something_new": [1, {"a": 2}]},
        {"origin": ENTITY | {"extra": 1}},
        {"origin": {"public_key": "M", "link_name": None, "contract_id": None}},
        {"origin": {"publicKey": "M", "linkName": "", "contractId": ""}},
    ],
)
def test_an_invocation_comes_in_many_forms(change: dict[str, Any]) -> None:
    packed = msgpack.packb(INVOCATION | change)
    if change.get("msg") == "\xa3foo":
        packed = packed.replace(b"\xa5\xc2\xa3foo", b"\xa4\xa3foo")
    invocation = lattice.decode_invocation(packed)
    assert invocation.msg == b"\xa3foo"
    assert invocation.origin == lattice.WasmCloudEntity("M")


def test_an_invocation_in_camel_case_is_understood() -> None:
    invocation = lattice.decode_invocation(msgpack.packb({camel(key): value for key, value in INVOCATION.items()}))
    assert (invocation.encoded_claims, invocation.content_length) == ("a.b.c", 4)


@given(msg=st.binary(max_size=40), extra=st.dictionaries(st.text(max_size=5), plain, max_size=2))
def test_both_ways_of_decoding_an_invocation_agree(msg: bytes, extra: dict[str, Any]) -> None:
    usual = lattice.decode_invocation(msgpack.packb(INVOCATION | {"msg": msg}))
    odd = lattice.decode_invocation(msgpack.packb(extra | INVOCATION | {"msg": list(msg), "zz": 1}))
    assert usual == odd


@pytest.mark.parametrize("name", [name for name in INVOCATION if name != "content_length"])
def test_a_missing_field_of_an_invocation_is_an_error(name: str) -> None:
    with pytest.raises(MalformedError, match=name):
        lattice.decode_invocation(msgpack.packb({key: value for key, value in INVOCATION.items() if key != name}))


@pytest.mark.parametrize(
    "change",
    [{"operation": 1}, {"id": None}, {"content_length": "4"}, {"origin": "M"}, {"origin": {}}, {"operation": b"x"}],
)
def test_a_field_of_the_wrong_type_is_an_error(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        lattice.decode_invocation(msgpack.packb(INVOCATION | change))


def test_text_that_is_not_utf8_is_an_error_except_in_msg() -> None:
    with pytest.raises(MalformedError):
        lattice.decode_invocation(msgpack.packb(INVOCATION | {"operation": "xx"}).replace(b"\xa2xx", b"\xa2\xff\xfe"))


HOSTILE = [
    b"",
    b"\xc1",
    b"\x91" * 5000,
    b"\x81\xa1a" * 3000,
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\x83\xa3key",
    b"\x01\x02",
    b"\x81\x01\x02",
    b"\xa1\xff",
    b"\xd6\xff\x00\x00\x00\x00",
]
DECODERS = [
    lattice.decode_invocation,
    lattice.decode_invocation_response,
    lattice.decode_link_definition,
    lattice.decode_health,
    *(lambda data, name=name: operations.decode_request(name, data) for name in operations.REQUESTS),
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_bytes_are_malformed_and_nothing_else(data: bytes) -> None:
    for decode in DECODERS:
        with pytest.raises(MalformedError):
            decode(data)


@given(st.binary(max_size=100) | plain.map(msgpack.packb))
def test_any_bytes_decode_or_are_malformed(data: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(data)
        except MalformedError:
            continue
    assert isinstance(lattice.invocation_id_of(data), str)
    assert isinstance(lattice.decode_shutdown_host_id(data), str)


keys = st.text(min_size=1)
requests = st.one_of(
    st.sampled_from([keyvalue.Get, keyvalue.Contains, keyvalue.Del, keyvalue.ListClear]).flatmap(keys.map),
    st.sampled_from([keyvalue.SetClear, keyvalue.SetQuery]).flatmap(keys.map),
    st.builds(keyvalue.Set, keys, st.text(), st.integers(0, U32_MAX)),
    st.builds(keyvalue.Increment, keys, st.integers(I32_MIN, I32_MAX)),
    st.builds(keyvalue.ListAdd, keys, st.text()),
    st.builds(keyvalue.ListDel, keys, st.text()),
    st.builds(keyvalue.ListRange, keys, st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1)),
    st.builds(keyvalue.SetAdd, keys, st.text()),
    st.builds(keyvalue.SetDel, keys, st.text()),
    st.builds(keyvalue.SetUnion, st.lists(keys)),
    st.builds(keyvalue.SetIntersection, st.lists(keys)),
    st.builds(extensions.GetEntry, keys),
    st.builds(extensions.Create, keys, st.text(), st.integers(0, U32_MAX)),
    st.builds(extensions.CompareAndSwap, keys, st.text(), st.integers(0, U32_MAX), st.integers(0, 2**63 - 1)),
    st.builds(extensions.CompareAndDelete, keys, st.integers(0, 2**63 - 1)),
    st.builds(extensions.GetMany, st.lists(keys)),
    st.builds(extensions.DeleteMany, st.lists(keys)),
    st.builds(
        extensions.SetMany,
        st.lists(st.builds(extensions.SetManyItem, keys, st.text(), st.integers(0, U32_MAX))),
    ),
    st.builds(extensions.ListKeys, st.text(), st.text(), st.integers(1, extensions.MAX_PAGE_KEYS)),
)


@given(requests)
def test_every_request_survives_encoding(request: keyvalue.Request) -> None:
    name, payload = operations.operation_name(request), operations.encode_request(request)
    assert operations.decode_request(name, payload) == request
    assert operations.decode_request(name, b"\xc1" + payload) == request


@given(requests)
def test_a_request_without_or_with_a_misnamed_field_is_an_error(request: keyvalue.Request) -> None:
    argument = msgpack.unpackb(operations.encode_request(request))
    if not isinstance(argument, dict):
        return
    for name in argument:
        rest = {key: value for key, value in argument.items() if key != name}
        for wrong in (rest, rest | {f"{name}_": argument[name]}, rest | {"set_name": argument[name]}):
            with pytest.raises(MalformedError, match=name):
                operations.decode_request(operations.operation_name(request), msgpack.packb(wrong))


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 2**31, -(2**31) - 1, b"1", [1]])
def test_an_i32_is_an_i32(value: object) -> None:
    with pytest.raises(MalformedError, match="value"):
        operations.decode_request("KeyValue.Increment", msgpack.packb({"key": "k", "value": value}))


@pytest.mark.parametrize("expires", [-1, 2**32, 1.5, "0", True, None])
def test_a_u32_is_a_u32(expires: object) -> None:
    with pytest.raises(MalformedError, match="expires"):
        operations.decode_request("KeyValue.Set", msgpack.packb({"key": "k", "value": "v", "expires": expires}))


@given(st.builds(keyvalue.GetResponse, st.text(), st.booleans()))
def test_an_answer_survives_encoding(answer: keyvalue.GetResponse) -> None:
    assert operations.decode_response(keyvalue.Get, bytes(operations.encode_response(answer))) == answer


def test_no_answer_is_encoded_as_empty_bytes() -> None:
    assert operations.encode_response(None) == b""
    assert operations.decode_response(keyvalue.Set, b"") is None


def test_cbor_and_unknown_operations_are_refused() -> None:
    with pytest.raises(MalformedError, match="CBOR"):
        operations.decode_request("KeyValue.Get", b"\x7fabc")
    with pytest.raises(operations.UnknownOperationError):
        operations.decode_request("KeyValue.Rename", b"\xa1a")


@pytest.mark.parametrize("values", [{}, None, {"a": "b"}])
def test_a_link_definition_may_have_no_values_and_extra_keys(values: dict[str, str] | None) -> None:
    plain_link = {
        "id": "X",
        "actor_id": "M",
        "provider_id": "V",
        "link_name": "l",
        "contract_id": "c",
        "values": values,
    }
    for data, is_json in ((msgpack.packb(plain_link), False), (json.dumps(plain_link).encode(), True)):
        link = lattice.decode_link_definition(data, is_json=is_json)
        assert link.values == (values or {})
        assert (
            lattice.decode_link_definition(lattice.encode_link_definition(link, is_json=is_json), is_json=is_json)
            == link
        )


def test_a_response_of_an_otp_actor_is_understood() -> None:
    assert lattice.decode_invocation_response(b"\x82\xa3msg\xa2\xff\xfe\xadinvocation_id\xa11").msg == b"\xff\xfe"
    assert lattice.decode_invocation_response(msgpack.packb({"msg": [], "error": "no"})).error == "no"


@given(st.binary(max_size=60))
def test_base64_decodes_with_and_without_padding(data: bytes) -> None:
    text = codec.encode_base64(data)
    assert codec.decode_base64(text, "x") == codec.decode_base64(text.rstrip("="), "x") == data


def test_structs_do_not_take_json_for_messagepack() -> None:
    with pytest.raises(MalformedError):
        lattice.decode_invocation(msgspec.json.encode({"origin": 1}))
