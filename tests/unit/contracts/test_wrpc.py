"""The calls of wRPC: byte for byte as the reference implementation writes them, in pieces, and from hostile senders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import wrpc
from contracts.codec import MalformedError
from contracts.component_values import U64_MAX, Limits, TooManyError

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "vectors" / "wrpc.json").read_text())["vectors"]
TYPES = {(type_.instance, type_.function): type_ for type_ in (*wrpc.CALLS, *wrpc.WATCHER_CALLS)}
LIMITS = Limits(max_bytes=4096, max_items=300)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
OCTETS = st.binary(max_size=200)
NUMBERS = st.integers(0, U64_MAX)
PARAMETERS: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXTS,
    "bytes | LongBytes": OCTETS,
    "int": NUMBERS,
    "int | None": st.none() | NUMBERS,
    "list[str]": st.lists(TEXTS, max_size=10),
    "list[tuple[str, bytes | LongBytes]]": st.lists(st.tuples(TEXTS, OCTETS), max_size=10),
}
FAILURES = st.builds(wrpc.Failure, st.just(wrpc.ErrorCase.OTHER), TEXTS) | st.sampled_from(
    [wrpc.Failure(wrpc.ErrorCase.NO_SUCH_STORE), wrpc.Failure(wrpc.ErrorCase.ACCESS_DENIED)]
)
RESULTS: dict[type[wrpc.WrpcCall], st.SearchStrategy[Any]] = {
    wrpc.Get: st.none() | OCTETS,
    wrpc.Set: st.none(),
    wrpc.Exists: st.booleans(),
    wrpc.ListKeys: st.builds(wrpc.KeyResponse, st.lists(TEXTS, max_size=10), st.none() | NUMBERS),
    wrpc.Increment: NUMBERS,
    wrpc.GetMany: st.lists(st.none() | st.tuples(TEXTS, OCTETS), max_size=10),
}


def call_of(vector: dict[str, Any]) -> wrpc.WrpcCall:
    bucket, *rest = vector["args"]
    type_ = TYPES[vector["instance"], vector["function"]]
    if type_ in (wrpc.Set, wrpc.OnSet):
        rest[1] = bytes.fromhex(rest[1])
    if type_ is wrpc.SetMany:
        rest = [[(key, bytes.fromhex(value)) for key, value in rest[0]]]
    return type_(bucket, *rest)


def result_of(vector: dict[str, Any]) -> Any:
    result = vector["result"]
    if "err" in result:
        error = result["err"]
        if isinstance(error, dict):
            return wrpc.Failure(wrpc.ErrorCase.OTHER, error["other"])
        return wrpc.Failure(wrpc.ErrorCase[error.upper().replace("-", "_")])
    good = result["ok"]
    match vector["function"]:
        case "get":
            return None if good is None else bytes.fromhex(good)
        case "list-keys":
            return wrpc.KeyResponse(good["keys"], good["cursor"])
        case "get-many":
            return [pair and (pair[0], bytes.fromhex(pair[1])) for pair in good]
    return good


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_each_golden_call_decodes_and_encodes_to_the_byte(vector: dict[str, Any]) -> None:
    call, result = call_of(vector), result_of(vector)
    parameters, answer = bytes.fromhex(vector["params_hex"]), bytes.fromhex(vector["result_hex"])
    assert wrpc.encode_parameters(call) == parameters
    assert wrpc.ParameterReader(type(call), LIMITS).feed(parameters) == call
    assert wrpc.encode_result(type(call), result) == answer
    assert wrpc.decode_result(type(call), answer) == result


@given(st.data())
def test_parameters_survive_any_way_of_cutting_them(data: st.DataObject) -> None:
    type_ = data.draw(st.sampled_from(list(TYPES.values())))
    hints = [type_.__annotations__.get(name, "str") for name in type_.__struct_fields__]
    values: list[Any] = [data.draw(PARAMETERS[hint]) for hint in hints]
    call = type_(*values)
    encoded = wrpc.encode_parameters(call)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=8)))
    pieces = [encoded[start:end] for start, end in zip([0, *cuts], [*cuts, len(encoded)], strict=True)]
    reader = wrpc.ParameterReader(type_, LIMITS)
    found = [call for call in map(reader.feed, _until_whole(pieces, len(encoded))) if call is not None]
    assert found == [call]


def _until_whole(pieces: list[bytes], size: int) -> list[bytes]:
    """Leave out the empty pieces behind the last byte."""
    kept, have = [], 0
    for piece in pieces:
        kept.append(piece)
        have += len(piece)
        if have == size:
            break
    return kept


@given(st.data())
def test_results_and_failures_survive_encoding(data: st.DataObject) -> None:
    type_ = data.draw(st.sampled_from(list(RESULTS)))
    result = data.draw(RESULTS[type_] | FAILURES)
    assert wrpc.decode_result(type_, wrpc.encode_result(type_, result)) == result


@given(st.sampled_from(list(TYPES.values())), st.binary(max_size=300))
def test_any_bytes_are_a_call_incomplete_or_refused(type_: type[wrpc.WrpcCall], data: bytes) -> None:
    try:
        call = wrpc.ParameterReader(type_, LIMITS).feed(data)
    except (MalformedError, TooManyError):
        return
    assert call is None or type(call) is type_


@given(st.sampled_from(list(RESULTS)), st.binary(max_size=300))
def test_any_bytes_are_a_result_or_refused(type_: type[wrpc.WrpcCall], data: bytes) -> None:
    try:
        wrpc.decode_result(type_, data)
    except (MalformedError, TooManyError):
        return


@pytest.mark.parametrize(
    ("type_", "data", "unit"),
    [
        (wrpc.Get, b"\xff\xff\xff\xff\x0f", "bytes"),
        (wrpc.Set, b"\x01b\x01k\xff\xff\xff\xff\x0f", "bytes"),
        (wrpc.GetMany, b"\x01b\xff\xff\xff\xff\x0f", "items"),
        (wrpc.SetMany, b"\x01b\xad\x02", "items"),
        (wrpc.SetMany, b"\x01b\x01\x01k\xff\xff\x03", "bytes"),
        (wrpc.Get, bytes(4097), "bytes"),
    ],
    ids=["bucket", "value", "keys", "301 pairs", "value of a pair", "message"],
)
def test_a_length_over_the_limit_is_refused_before_it_has_arrived(
    type_: type[wrpc.WrpcCall], data: bytes, unit: str
) -> None:
    with pytest.raises(TooManyError) as caught:
        wrpc.ParameterReader(type_, LIMITS).feed(data)
    assert (caught.value.unit, caught.value.count > caught.value.maximum) == (unit, True)


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        (wrpc.Get, b"\x01\xff\x01k"),
        (wrpc.Get, b"\x01b\x01k\x00"),
        (wrpc.Get, b"\x80\x80\x80\x80\x10"),
        (wrpc.Get, b"\x80\x80\x80\x80\x80\x00\x01k"),
        (wrpc.Increment, b"\x01b\x01k" + b"\xff" * 10),
        (wrpc.Increment, b"\x01b\x01k" + b"\xff" * 9 + b"\x02"),
        (wrpc.ListKeys, b"\x01b\x02"),
    ],
    ids=[
        "not UTF-8",
        "bytes left over",
        "length over u32",
        "length of six bytes",
        "endless number",
        "number over u64",
        "option of neither",
    ],
)
def test_bytes_that_are_no_parameters_are_refused(type_: type[wrpc.WrpcCall], data: bytes) -> None:
    with pytest.raises(MalformedError):
        wrpc.ParameterReader(type_, LIMITS).feed(data)


def test_a_padded_number_is_accepted() -> None:
    assert wrpc.ParameterReader(wrpc.Increment, LIMITS).feed(b"\x01b\x01k\x81\x80\x00") == wrpc.Increment("b", "k", 1)


def test_many_small_pieces_are_each_decoded_once() -> None:
    keys = [f"key {number}" for number in range(300)]
    call = wrpc.GetMany("b", keys)
    reader = wrpc.ParameterReader(wrpc.GetMany, LIMITS)
    encoded = wrpc.encode_parameters(call)
    found = [reader.feed(encoded[at : at + 1]) for at in range(len(encoded))]
    assert found[:-1] == [None] * (len(encoded) - 1)
    assert found[-1] == call
    assert reader.held_bytes == len(encoded)


def test_a_number_outside_u64_is_not_encoded() -> None:
    for delta in (-1, U64_MAX + 1):
        with pytest.raises(ValueError, match="2\\^64-1"):
            wrpc.encode_parameters(wrpc.Increment("b", "k", delta))


def test_the_subject_and_the_short_name_of_a_function() -> None:
    subject = wrpc.invocation_subject("default", "kv", wrpc.ListKeys)
    assert subject == "default.kv.wrpc.0.0.1.wrpc:keyvalue/store@0.2.0-draft.list-keys"
    assert wrpc.function_name(wrpc.ListKeys) == "store.list-keys"


@given(TEXTS)
def test_a_single_text_survives_encoding(text: str) -> None:
    assert wrpc.decode_text(wrpc.encode_text(text)) == text
