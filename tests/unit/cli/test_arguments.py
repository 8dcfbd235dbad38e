import pytest

from contracts import keyvalue
from provider.cli.arguments import ArgumentsError, operation_type, request_from


@pytest.mark.parametrize(
    ("typed", "request_"),
    [
        (["Get", "k"], keyvalue.Get("k")),
        (["contains", "k"], keyvalue.Contains("k")),
        (["DEL", "k"], keyvalue.Del("k")),
        (["KeyValue.ListClear", "k"], keyvalue.ListClear("k")),
        (["keyvalue.setclear", "k"], keyvalue.SetClear("k")),
        (["SetQuery", "k"], keyvalue.SetQuery("k")),
        (["Set", "k", "17"], keyvalue.Set("k", "17", 0)),
        (["Increment", "n", "-5"], keyvalue.Increment("n", -5)),
        (["ListAdd", "l", "a"], keyvalue.ListAdd("l", "a")),
        (["ListDel", "l", "a"], keyvalue.ListDel("l", "a")),
        (["ListRange", "l", "0", "-1"], keyvalue.ListRange("l", 0, -1)),
        (["SetAdd", "s", "a"], keyvalue.SetAdd("s", "a")),
        (["SetDel", "s", "a"], keyvalue.SetDel("s", "a")),
        (["SetUnion", "a", "b", "c"], keyvalue.SetUnion(["a", "b", "c"])),
        (["SetIntersection", "a"], keyvalue.SetIntersection(["a"])),
    ],
)
def test_each_operation_is_typed_as_its_name_and_its_fields(typed: list[str], request_: keyvalue.Request) -> None:
    assert request_from(typed[0], typed[1:]) == request_


def test_an_expiry_belongs_to_set() -> None:
    assert request_from("Set", ["k", "v"], 60) == keyvalue.Set("k", "v", 60)
    with pytest.raises(ArgumentsError, match="only Set"):
        request_from("Get", ["k"], 60)


def test_an_unknown_operation_is_answered_with_all_there_are() -> None:
    with pytest.raises(ArgumentsError, match="Contains, Del, Get, Increment"):
        operation_type("Put")


@pytest.mark.parametrize(
    ("typed", "usage"),
    [
        (["Get"], "Get takes KEY; got 0 arguments"),
        (["Set", "k"], r"Set takes KEY VALUE \[--expires SECONDS\]; got 1 argument$"),
        (["ListRange", "l", "0"], "ListRange takes KEY START STOP; got 2 arguments"),
        (["SetUnion"], r"SetUnion takes KEY \[KEY \.\.\.\]"),
        (["Increment", "n", "five"], "Increment takes KEY VALUE; VALUE: expected int, got str"),
        (["Increment", "n", "2147483648"], "VALUE: expected int <= 2147483647"),
    ],
)
def test_wrong_arguments_are_answered_with_the_right_ones(typed: list[str], usage: str) -> None:
    with pytest.raises(ArgumentsError, match=usage):
        request_from(typed[0], typed[1:])


@pytest.mark.parametrize("seconds", [-1, 2**32])
def test_an_expiry_is_a_u32(seconds: int) -> None:
    with pytest.raises(ArgumentsError, match="--expires"):
        request_from("Set", ["k", "v"], seconds)
