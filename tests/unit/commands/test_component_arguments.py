"""The arguments of `call` in a lattice of 1.x."""

from __future__ import annotations

import os
from typing import Any

import pytest

from contracts import wrpc
from contracts.extensions import GetResult, ListKeysResponse
from contracts.keyvalue import GetResponse
from provider.commands.component_arguments import (
    FORMS,
    BinaryResponse,
    BinaryResult,
    component_call_from,
    shown_result,
)
from provider.commands.errors import ArgumentsError

B = "default"


@pytest.mark.parametrize(
    ("name", "arguments", "call"),
    [
        ("Get", ["k"], wrpc.Get(B, "k")),
        ("KeyValue.Get", ["k"], wrpc.Get(B, "k")),
        ("store.get", ["k"], wrpc.Get(B, "k")),
        ("set", ["k", "é"], wrpc.Set(B, "k", "é".encode())),
        ("Del", ["k"], wrpc.Delete(B, "k")),
        ("delete", ["k"], wrpc.Delete(B, "k")),
        ("Contains", ["k"], wrpc.Exists(B, "k")),
        ("exists", ["k"], wrpc.Exists(B, "k")),
        ("list-keys", [], wrpc.ListKeys(B, None)),
        ("ListKeys", ["17"], wrpc.ListKeys(B, 17)),
        ("Increment", ["n", str(2**64 - 1)], wrpc.Increment(B, "n", 2**64 - 1)),
        ("GetMany", ["a", "b"], wrpc.GetMany(B, ["a", "b"])),
        ("set-many", ["a=1", "b=x=y"], wrpc.SetMany(B, [("a", b"1"), ("b", b"x=y")])),
        ("DeleteMany", ["a"], wrpc.DeleteMany(B, ["a"])),
    ],
)
def test_a_function_goes_by_its_own_name_and_by_that_of_actors(
    name: str, arguments: list[str], call: wrpc.WrpcCall
) -> None:
    assert component_call_from(name, arguments, None, os.fsencode) == call


def test_every_function_has_a_form() -> None:
    assert tuple(FORMS) == wrpc.CALLS


@pytest.mark.parametrize(
    ("name", "arguments", "expires", "text"),
    [
        ("ListAdd", ["k", "v"], None, "components have no function 'ListAdd'"),
        ("Incremen", ["k", "1"], None, "Increment"),
        ("Set", ["k"], None, "Set takes KEY VALUE; got 1 argument"),
        ("Set", ["k", "v"], 60, "cannot let a value expire"),
        ("Increment", ["k", "-1"], None, "VALUE: expected a whole number from 0 to 18446744073709551615"),
        ("Increment", ["k", str(2**64)], None, "VALUE"),
        ("ListKeys", ["user:"], None, "CURSOR"),
        ("SetMany", ["a"], None, "'a' has no ="),
    ],
)
def test_what_cannot_be_called_is_told_with_its_form(
    name: str, arguments: list[str], expires: int | None, text: str
) -> None:
    with pytest.raises(ArgumentsError) as error:
        component_call_from(name, arguments, expires, os.fsencode)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("call", "result", "shown"),
    [
        (wrpc.Get(B, "k"), b"v", GetResponse("v", True)),
        (wrpc.Get(B, "k"), None, GetResponse("", False)),
        (wrpc.Get(B, "k"), b"\xff", BinaryResponse("/w==")),
        (wrpc.GetMany(B, ["a", "b"]), [("a", b"v"), None], [GetResult("a", "v", True), GetResult("b", "", False)]),
        (wrpc.GetMany(B, ["a"]), [("a", b"\xff")], [BinaryResult("a", "/w==")]),
        (wrpc.ListKeys(B, None), wrpc.KeyResponse(["a"], 7), ListKeysResponse(["a"], "7")),
        (wrpc.ListKeys(B, None), wrpc.KeyResponse([], None), ListKeysResponse([], "")),
        (wrpc.Set(B, "k", b"v"), None, None),
        (wrpc.Increment(B, "k", 1), 2**40, 2**40),
    ],
)
def test_a_result_is_shown_as_that_of_an_actor(call: wrpc.WrpcCall, result: Any, shown: Any) -> None:
    assert shown_result(call, result) == shown
    assert not isinstance(shown, BinaryResponse) or shown.value == b"\xff"
