"""Keys and values survive the way through a bucket, and are stored in the form that people expect."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider import errors
from provider.keyvalue.bucket.entries import Write, decode_entry, encode_headers
from provider.keyvalue.keys import MAX_BUCKET_KEY_BYTES, RESERVED_KEY, decode_key, encode_key
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.payloads import encode_payload
from provider.nats.frames import header_block, header_value

LEGAL = re.compile(r"[-/_=.a-zA-Z0-9]+")
keys = st.text(
    st.one_of(st.sampled_from("=_.AB3/ é*>\x7f\0"), st.characters(exclude_categories=["Cs"])), min_size=1, max_size=20
)
parts = st.one_of(
    st.from_regex(r"[-/_=a-zA-Z0-9]+", fullmatch=True),
    st.text("=_4A3Dleas", min_size=1, max_size=8),
    st.from_regex(r"[a-z]+=[0-9A-F]{2,4}(/[a-z]+=[0-9]{2})?", fullmatch=True),
    st.binary(min_size=1, max_size=9).map(lambda data: base64.urlsafe_b64encode(data).decode()),
)
legal_keys = st.lists(parts, min_size=1, max_size=4).map(".".join)
"""Keys that every client of a bucket allows, most with an equals sign."""
looks_escaped = re.compile(r"=_(?:lease|[^.]*=[0-9A-F]{2}[^.]*)?")
values = st.one_of(
    st.builds(Value, st.just(Kind.TEXT), st.text()),
    st.builds(Value, st.just(Kind.COUNTER), st.integers(-(2**31), 2**31 - 1)),
    st.builds(Value, st.just(Kind.LIST), st.lists(st.text(), min_size=1)),
    st.builds(Value, st.just(Kind.SET), st.lists(st.text(), min_size=1).map(dict.fromkeys)),
)


@given(keys, st.sampled_from(["", "p", "p.", "=4", "=_", "=_a=4"]))
def test_a_key_survives_and_its_stored_form_is_legal(key: str, prefix: str) -> None:
    encoded = encode_key(key, prefix)
    assert decode_key(encoded, prefix) == key
    assert LEGAL.fullmatch(encoded)
    assert not encoded.startswith(".")
    assert not encoded.endswith(".")
    assert ".." not in encoded
    assert encoded != RESERVED_KEY


@given(st.one_of(keys, legal_keys), st.one_of(keys, legal_keys))
def test_two_keys_never_share_a_stored_form(one: str, other: str) -> None:
    assert (encode_key(one) == encode_key(other)) is (one == other)


@given(keys)
def test_the_stored_form_of_a_key_is_another_key_of_its_own(key: str) -> None:
    stored = encode_key(key)
    if stored != key:
        assert encode_key(stored) != stored
        assert decode_key(encode_key(stored)) == stored


@given(legal_keys)
def test_a_key_that_buckets_allow_keeps_its_name_unless_a_part_looks_escaped(key: str) -> None:
    assert (encode_key(key) == key) is not any(looks_escaped.fullmatch(part) for part in key.split("."))


@given(legal_keys)
def test_a_key_of_another_client_is_read_under_its_own_name(key: str) -> None:
    assert decode_key(key) in (key, None)
    if decode_key(key) is None:
        assert any(looks_escaped.fullmatch(part) for part in key.split("."))


@given(keys, keys)
def test_a_key_is_escaped_part_by_part_so_that_prefixes_and_patterns_stay(one: str, other: str) -> None:
    assert encode_key(f"{one}.{other}") == f"{encode_key(one)}.{encode_key(other)}"
    assert encode_key(one).count(".") == one.count(".")


@pytest.mark.parametrize(
    ("key", "stored"),
    [
        ("user.1.profile", "user.1.profile"),
        ("a=b", "a=b"),
        ("year=2024/month=05", "year=2024/month=05"),
        ("user.id=42", "user.id=42"),
        ("YWJj==", "YWJj=="),
        ("YQ==.YWI=", "YQ==.YWI="),
        ("=41", "=41"),
        ("a=3Ab", "a=3Ab"),
        ("col=__NULL__", "col=__NULL__"),
        ("=_rest", "=_rest"),
        ("x:y", "=_x=3Ay"),
        ("a b", "=_a=20b"),
        ("café", "=_caf=C3=A9"),
        ("*", "=_=2A"),
        (".a.", "=_.a.=_"),
        ("a..b", "a.=_.b"),
        ("id=42.a=1 b", "id=42.=_a=3D1=20b"),
        ("=_", "=_=3D_"),
        ("=_x=3Ay", "=_=3D_x=3D3Ay"),
        (RESERVED_KEY, "=_=3D_lease"),
    ],
)
def test_a_key_is_stored_as_documented(key: str, stored: str) -> None:
    assert encode_key(key) == stored


def test_an_empty_key_and_one_that_is_too_long_are_errors() -> None:
    with pytest.raises(errors.EmptyKeyError):
        encode_key("", "prefix")
    assert len(encode_key("k" * MAX_BUCKET_KEY_BYTES)) == MAX_BUCKET_KEY_BYTES
    with pytest.raises(errors.KeyTooLongError) as error:
        encode_key("é" * 600)
    assert (error.value.size, error.value.maximum) == (3602, MAX_BUCKET_KEY_BYTES)


@pytest.mark.parametrize(
    "foreign",
    [RESERVED_KEY, "=_=41", "=_=FF", "=_a=41", "=_é=41", "=_\udcff=41", "other.key", "a:b", "p.=_=41", "p.a:b"],
)
def test_a_stored_key_that_no_actor_of_the_prefix_can_have_written_is_not_a_key(foreign: str) -> None:
    assert decode_key(foreign, "p.") is None


@given(values, st.integers(0, 2**41), st.none() | st.integers(0, 2**53), st.booleans())
def test_a_value_survives_the_way_through_a_bucket(
    value: Value, expires_at_ms: int, revision: int | None, tells_ttl: bool
) -> None:
    value.expires_at_ms = expires_at_ms
    write = Write("k", "k", value, encode_payload(value), b"op.1", revision, tells_ttl=tells_ttl)
    header = encode_headers(write, 1000)
    entry = decode_entry(7, header, write.payload)
    assert entry.value == value
    assert (entry.revision, entry.operation_id) == (7, b"op.1")
    assert (header_value(header, b"Nats-TTL") is not None) is (tells_ttl and expires_at_ms > 0)


@given(values)
def test_a_value_is_stored_as_nats_kv_get_should_show_it(value: Value) -> None:
    shown = encode_payload(value)
    match value.kind:
        case Kind.TEXT:
            assert shown.decode() == value.data
        case Kind.COUNTER:
            assert shown == str(value.data).encode()
        case _:
            assert json.loads(shown) == list(value.data)


def test_a_ttl_is_whole_seconds_rounded_up() -> None:
    write = Write("k", "k", Value(Kind.TEXT, "v", 10_001), b"v", b"op", 0, tells_ttl=True)
    assert header_value(encode_headers(write, 9_000), b"Nats-TTL") == b"2s"
    assert header_value(encode_headers(write, 99_000), b"Nats-TTL") == b"1s"


@pytest.mark.parametrize("is_expiry", [False, True])
def test_a_deletion_is_a_marker_that_stays(is_expiry: bool) -> None:
    header = encode_headers(Write("k", "k", None, b"", b"op", 3, tells_ttl=True, is_expiry=is_expiry), 0)
    assert header_value(header, b"KV-Operation") == b"PURGE"
    assert header_value(header, b"Nats-Rollup") is None, "a bucket without history needs no rollup, and may forbid it"
    assert header_value(header, b"Nats-TTL") is None
    assert header_value(header, b"Nats-Marker-Reason") == (b"MaxAge" if is_expiry else None)
    assert decode_entry(4, header, b"").value is None


@pytest.mark.parametrize(("keeps_history", "operation", "rollup"), [(False, b"PURGE", b"sub"), (True, b"DEL", None)])
def test_a_marker_removes_history_only_if_it_says_so(keeps_history: bool, operation: bytes, rollup: bytes) -> None:
    write = Write("k", "k", None, b"", b"op", 3, keeps_history=keeps_history)
    header = encode_headers(write, 0, rolls_up=True)
    assert header_value(header, b"KV-Operation") == operation
    assert header_value(header, b"Nats-Rollup") == rollup


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (b"", b"\xff\xfe"),
        (header_block((b"Kv-Kind", b"counter")), b"many"),
        (header_block((b"Kv-Kind", b"list")), b'{"a": 1}'),
        (header_block((b"Kv-Kind", b"set")), b"[1]"),
        (header_block((b"Kv-Kind", b"graph")), b"text"),
        (header_block((b"Kv-Kind", b"counter")), b"2147483648"),
        (header_block((b"Kv-Kind", b"counter")), b"9" * 5000),
        (header_block((b"Kv-Kind", b"list")), rb'["\ud800"]'),
        (header_block((b"Expires-At", b"9" * 5000)), b"text"),
        (header_block((b"Expires-At", b"99999999999999")), b"text"),
        (header_block((b"Expires-At", b"tomorrow")), b"text"),
    ],
)
def test_a_message_that_no_provider_can_have_written_is_a_binary_value(header: bytes, payload: bytes) -> None:
    value = decode_entry(1, header, payload).value
    assert value is not None
    assert value.kind is Kind.BINARY


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"Kv-Kind", b"Expires-At", b"Op-Id", b"KV-Operation", b"Nats-Sequence", b"X"]),
            st.sampled_from([b"counter", b"list", b"set", b"DEL"]) | st.from_regex(rb"[0-9]{0,30}|[ -~\x80-\xff]*"),
        ),
        max_size=4,
    ),
    st.binary() | st.sampled_from([b"1", b"[]", b'["a"]', b"[1]", b"1e9"]),
)
def test_no_stored_message_breaks_the_reader(pairs: list[tuple[bytes, bytes]], payload: bytes) -> None:
    value = decode_entry(1, header_block(*pairs), payload).value
    assert value is None or value.kind is Kind.BINARY or encode_payload(value) is not None


def test_a_message_of_another_client_without_headers_is_a_text() -> None:
    assert decode_entry(1, b"", b"[1]").value == Value(Kind.TEXT, "[1]")


@pytest.mark.parametrize("reason", [b"MaxAge", b"Purge", b"Remove"])
def test_a_marker_of_the_server_is_absence(reason: bytes) -> None:
    assert decode_entry(1, header_block((b"Nats-Marker-Reason", reason)), b"").value is None
