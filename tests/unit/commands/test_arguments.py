import pytest

from contracts import extensions, keyvalue
from contracts.operations import REQUESTS
from provider.commands.arguments import OPERATIONS, operation_type, request_from
from provider.commands.errors import ArgumentsError


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


def test_extensions_are_typed_the_same_way() -> None:
    assert request_from("create", ["lock", "mine"], 30) == extensions.Create("lock", "mine", 30)
    assert request_from("KeyValueAtomics.CompareAndSwap", ["k", "v", "7"]) == extensions.CompareAndSwap("k", "v", 0, 7)
    assert request_from("ListKeys", ["user.", "", "10"]) == extensions.ListKeys("user.", "", 10)
    assert request_from("SetMany", ["a=1", "b=x=y"], 5) == extensions.SetMany(
        [extensions.SetManyItem("a", "1", 5), extensions.SetManyItem("b", "x=y", 5)]
    )
    with pytest.raises(ArgumentsError, match=r"KEY=VALUE.*'b' has no ="):
        request_from("SetMany", ["a=1", "b"])


def test_the_arguments_of_a_listing_may_be_left_out() -> None:
    assert request_from("ListKeys", []) == extensions.ListKeys("", "", 100)
    assert request_from("ListKeys", ["user."]) == extensions.ListKeys("user.", "", 100)
    assert "ListKeys          [PREFIX [CURSOR [LIMIT]]]" in OPERATIONS
    with pytest.raises(ArgumentsError, match="got 4 arguments"):
        request_from("ListKeys", ["", "", "1", "x"])


def test_only_texts_to_write_are_read_from_elsewhere() -> None:
    assert request_from("Set", ["k", "v"], None, str.upper) == keyvalue.Set("k", "V", 0)
    assert request_from("SetAdd", ["k", "v"], None, str.upper) == keyvalue.SetAdd("k", "V")
    assert request_from("Increment", ["k", "1"], None, str.upper) == keyvalue.Increment("k", 1)
    assert request_from("SetMany", ["a=b"], None, str.upper) == extensions.SetMany(
        [extensions.SetManyItem("a", "B", 0)]
    )


def test_only_operations_that_write_a_text_take_an_expiry() -> None:
    assert request_from("Set", ["k", "v"], 60) == keyvalue.Set("k", "v", 60)
    with pytest.raises(ArgumentsError, match="only CompareAndSwap, Create, Set, SetMany"):
        request_from("Get", ["k"], 60)


def test_an_unknown_operation_is_answered_with_the_list_of_operations() -> None:
    with pytest.raises(ArgumentsError, match="Contains, Create, Del, DeleteMany, Get"):
        operation_type("Put")


def test_every_operation_is_listed_with_its_arguments() -> None:
    listed = dict(line.split(maxsplit=1) for line in OPERATIONS.splitlines())
    assert set(listed) == {type_.__name__ for type_ in REQUESTS.values()}
    assert listed["CompareAndSwap"] == "KEY VALUE REVISION [--expires DURATION]"


@pytest.mark.parametrize(
    ("typed", "usage"),
    [
        (["Get"], "Get takes KEY; got 0 arguments"),
        (["Set", "k"], r"Set takes KEY VALUE \[--expires DURATION\]; got 1 argument$"),
        (["ListRange", "l", "0"], "ListRange takes KEY START STOP; got 2 arguments"),
        (["SetUnion"], r"SetUnion takes KEY \[KEY \.\.\.\]"),
        (["SetMany"], r"SetMany takes KEY=VALUE \[KEY=VALUE \.\.\.\]"),
        (["Set", "\udcff", "v"], "Set takes KEY VALUE .*; argument 1 is not UTF-8"),
        (["ListKeys", "", "", "x"], "LIMIT: expected a whole number$"),
        (["Increment", "n", "five"], "Increment takes KEY VALUE; VALUE: expected a whole number$"),
        (["Increment", "n", "2147483648"], "VALUE: expected a whole number <= 2147483647$"),
    ],
)
def test_wrong_arguments_are_answered_with_the_correct_form(typed: list[str], usage: str) -> None:
    with pytest.raises(ArgumentsError, match=usage):
        request_from(typed[0], typed[1:])


@pytest.mark.parametrize("seconds", [-1, 2**32])
def test_an_expiry_is_a_u32(seconds: int) -> None:
    with pytest.raises(ArgumentsError, match="--expires"):
        request_from("Set", ["k", "v"], seconds)
