"""The functions of components as operations, and their results and errors."""

from __future__ import annotations

from typing import Any

import pytest

from contracts import wrpc
from contracts.extensions import ChangeResult, DeleteMany
from contracts.keyvalue import Contains, Del, Request
from contracts.secret import Secret
from provider import errors
from provider.keyvalue.byte_values import (
    GetBytes,
    GetBytesMany,
    IncrementU64,
    KeyPage,
    ListPage,
    SetBytes,
    SetBytesMany,
)
from provider.keyvalue.link_config import LinkConfig, parse_link
from provider.nats.settings import ConnectionSettings
from provider.wrpc_calls import PAGE_BYTES, failure_of, request_of, result_of

LATTICE = ConnectionSettings(servers=("nats://127.0.0.1:4222",), token=Secret(""))
B = "default"


def config(**values: str) -> LinkConfig:
    return parse_link(values, lattice="l", link_name="users", lattice_connection=LATTICE)


@pytest.mark.parametrize(
    ("call", "request_", "answer", "result"),
    [
        (wrpc.Get(B, "k"), GetBytes("k"), b"v", b"v"),
        (wrpc.Get(B, "k"), GetBytes("k"), None, None),
        (wrpc.Set(B, "k", b"v"), SetBytes("k", b"v"), None, None),
        (wrpc.Delete(B, "k"), Del("k"), False, None),
        (wrpc.Exists(B, "k"), Contains("k"), True, True),
        (wrpc.ListKeys(B, None), ListPage(0, PAGE_BYTES), KeyPage(["a"], 7), wrpc.KeyResponse(["a"], 7)),
        (wrpc.ListKeys(B, 300), ListPage(300, PAGE_BYTES), KeyPage([], None), wrpc.KeyResponse([], None)),
        (wrpc.Increment(B, "k", 2**64 - 1), IncrementU64("k", 2**64 - 1), 2**64 - 1, 2**64 - 1),
        (wrpc.GetMany(B, ["a", "b"]), GetBytesMany(["a", "b"]), [b"v", None], [("a", b"v"), None]),
        (
            wrpc.SetMany(B, [("a", b"v")]),
            SetBytesMany([SetBytes("a", b"v")]),
            [ChangeResult("a", True)],
            None,
        ),
        (wrpc.DeleteMany(B, ["a"]), DeleteMany(["a"]), [ChangeResult("a", False)], None),
    ],
)
def test_a_function_is_an_operation_and_its_answer_the_result(
    call: wrpc.WrpcCall, request_: Request, answer: object, result: object
) -> None:
    assert request_of(call, config(), "users") == request_
    assert result_of(call, answer) == result
    assert wrpc.decode_result(type(call), wrpc.encode_result(type(call), result)) == result


def test_every_function_is_an_operation() -> None:
    parameters: dict[str, Any] = {
        "bucket": B,
        "key": "k",
        "value": b"",
        "cursor": None,
        "delta": 1,
        "keys": [],
        "pairs": [],
    }
    for type_ in wrpc.CALLS:
        call = type_(**{name: parameters[name] for name in type_.__struct_fields__})
        request_of(call, config(), "users")


def test_changes_that_were_made_in_part_are_one_error_with_their_number() -> None:
    answer = [ChangeResult("a", True), ChangeResult("b", False, "no room"), ChangeResult("c", False, "too large")]
    for call in (wrpc.SetMany(B, []), wrpc.DeleteMany(B, [])):
        with pytest.raises(errors.NotAllDoneError, match=r"2 of 3 keys were not (set|deleted); the first: no room"):
            result_of(call, answer)


@pytest.mark.parametrize("name", ["", "default", "users", "l_users"])
def test_a_store_is_opened_by_its_own_names(name: str) -> None:
    assert request_of(wrpc.Get(name, "k"), config(), "users") == GetBytes("k")


def test_another_name_is_no_store_unless_the_link_says_that_it_does_not_matter() -> None:
    with pytest.raises(errors.NoSuchStoreError, match="'other'"):
        request_of(wrpc.Get("other", "k"), config(), "users")
    assert request_of(wrpc.Get("other", "k"), config(BUCKET_ARGUMENT="ignore"), "users") == GetBytes("k")
    assert request_of(wrpc.Get("other", "k"), config(BUCKET="other"), "users") == GetBytes("k")
    with pytest.raises(errors.NoSuchStoreError):
        request_of(wrpc.Get("l_users", "k"), config(BACKEND="cache", REPLICATION_AUTH="off"), "users")


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (errors.NoSuchStoreError("x"), wrpc.Failure(wrpc.ErrorCase.NO_SUCH_STORE)),
        (errors.StoreForbiddenError("no permission"), wrpc.Failure(wrpc.ErrorCase.ACCESS_DENIED)),
        (errors.EmptyKeyError(), wrpc.Failure(wrpc.ErrorCase.OTHER, "key is empty")),
    ],
)
def test_an_error_has_its_case(error: Exception, failure: wrpc.Failure) -> None:
    assert failure_of(error) == failure
