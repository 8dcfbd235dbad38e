"""The value under a key, and the fifteen operations as functions of a value. Pure: the time is an argument.

Results are those of Redis as the kvredis provider gives them. A value of another kind is an error, and nothing changes. A
function that changes a value may do so in place: the caller gives it a value that nothing else uses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from contracts import keyvalue as kv
from contracts.encoded_texts import EncodedTexts
from contracts.extensions import GetMany, GetResult
from contracts.integers import I32_MAX, I32_MIN
from contracts.long_values import LongText
from provider import errors
from provider.keyvalue.kinds import Kind, Value

DECIMAL = re.compile(r"(?:0|-?[1-9][0-9]{0,400})\Z")
"""A text that counts as a number, as Redis reads it: no plus sign, no leading zeros. More than 400 digits are not converted, so
that a long text costs nothing; a number of that length overflows anyway."""


MANY_BYTES = 16 * 1024 * 1024
"""Size of all values together that one call may read: it bounds the memory that a call of many large values takes."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Largest answer, unless the caller sets it: what one call may take in memory, with the copies that are made on its way out."""


class Change(NamedTuple):
    """The effect of an operation on a value.

    Attributes:
        value: The new value; `None`: the key has no value any more.
        result: The operation's answer.
        is_change: Whether anything has to be written.
        keeps_history: Whether a deletion leaves the earlier revisions, in a bucket with history.
    """

    value: Value | None
    result: Any
    is_change: bool
    keeps_history: bool = False


# --- reading -----------------------------------------------------------------------------------------------------------


def get(request: kv.Get, value: Value | None) -> kv.GetResponse:
    if value is None:
        return _MISSING
    if value.kind is Kind.TEXT:
        return kv.GetResponse(value.data, True)
    if value.kind is Kind.COUNTER:
        return kv.GetResponse(str(value.data), True)
    raise errors.WrongKindError(request.key, value.kind.value, Kind.TEXT.value)


def contains(request: kv.Contains, value: Value | None) -> bool:
    return value is not None


def list_range(request: kv.ListRange, value: Value | None) -> list[str]:
    elements = _data(request.key, value, Kind.LIST)
    if not elements:
        return []
    start, stop = range_bounds(request.start, request.stop, len(elements))
    found: list[str] = elements[start:stop] if start < stop else []
    return found


def range_bounds(start: int, stop: int, length: int) -> tuple[int, int]:
    """Return the position of the first element of a range in a list of a length, and the position behind the last.

    Args:
        start: Position of the first element; negative: from the end.
        stop: Position of the last element, likewise. It may be behind the end of the list.
        length: Number of elements of the list.
    """
    first = max(start + length, 0) if start < 0 else start
    return first, (stop + length if stop < 0 else stop) + 1


def set_query(request: kv.SetQuery, value: Value | None) -> list[str]:
    return list(_data(request.key, value, Kind.SET) or ())


def set_union(request: kv.SetUnion, values: Sequence[Value | None]) -> list[str]:
    members: dict[str, None] = {}
    for members_of_one in _sets(request, values):
        members.update(members_of_one)
    return list(members)


def set_intersection(request: kv.SetIntersection, values: Sequence[Value | None]) -> list[str]:
    first, *others = _sets(request, values) or [{}]
    return [member for member in first if all(member in other for other in others)]


def get_many(request: GetMany, values: Sequence[Value | None]) -> list[GetResult]:
    results = [_get_result(key, value) for key, value in zip(request.keys, values, strict=True)]
    # A key that is named twice is answered twice, so the answer may be larger than the values that were read.
    if sum(_size_bytes(result.value) for result in results) > MANY_BYTES:
        raise errors.TooMuchAtOnceError(len(results), MANY_BYTES)
    return results


def _size_bytes(text: str | LongText) -> int:
    return len(text) if isinstance(text, LongText) or text.isascii() else len(text.encode())


def _get_result(key: str, value: Value | None) -> GetResult:
    try:
        found = get(kv.Get(key), value)
    except errors.StoreError as error:
        return GetResult(key, "", True, str(error))
    return GetResult(key, found.value, found.exists)


# --- changing ----------------------------------------------------------------------------------------------------------


def set_text(request: kv.Set, value: Value | None, now_ms: int) -> Change:
    expires_at_ms = now_ms + request.expires * 1000 if request.expires else 0
    return Change(Value(Kind.TEXT, request.value, expires_at_ms), None, True)


def delete(request: kv.Del, value: Value | None, now_ms: int) -> Change:
    return Change(None, value is not None, value is not None)


def list_clear(request: kv.ListClear, value: Value | None, now_ms: int) -> Change:
    check_kind(request.key, value, Kind.LIST)
    return Change(None, value is not None, value is not None)


def set_clear(request: kv.SetClear, value: Value | None, now_ms: int) -> Change:
    check_kind(request.key, value, Kind.SET)
    return Change(None, value is not None, value is not None)


def increment(request: kv.Increment, value: Value | None, now_ms: int) -> Change:
    total = number_of(request.key, value) + request.value
    if not I32_MIN <= total <= I32_MAX:
        raise errors.CounterOverflowError(request.key, total, I32_MIN, I32_MAX)
    expires_at_ms = value.expires_at_ms if value is not None else 0
    return Change(Value(Kind.COUNTER, total, expires_at_ms), total, True)


def list_add(request: kv.ListAdd, value: Value | None, now_ms: int) -> Change:
    check_kind(request.key, value, Kind.LIST)
    value = value or Value(Kind.LIST, [])
    value.data.append(request.value)
    return Change(value, len(value.data), True)


def list_del(request: kv.ListDel, value: Value | None, now_ms: int) -> Change:
    check_kind(request.key, value, Kind.LIST)
    if value is None or request.value not in value.data:
        return Change(value, False, False)
    value.data.remove(request.value)
    return Change(value if value.data else None, True, True)


def set_add(request: kv.SetAdd, value: Value | None, now_ms: int) -> Change:
    check_kind(request.key, value, Kind.SET)
    value = value or Value(Kind.SET, {})
    if request.value in value.data:
        return Change(value, 0, False)
    value.data[request.value] = None
    return Change(value, 1, True)


def set_del(request: kv.SetDel, value: Value | None, now_ms: int) -> Change:
    check_kind(request.key, value, Kind.SET)
    if value is None or request.value not in value.data:
        return Change(value, 0, False)
    del value.data[request.value]
    return Change(value if value.data else None, 1, True)


_MISSING = kv.GetResponse("", False)


def check_kind(key: str, value: Value | None, wanted: Kind) -> None:
    """Check the kind of a value; a key without a value passes.

    Raises:
        errors.WrongKindError: The value is of another kind.
    """
    if value is not None and value.kind is not wanted:
        raise errors.WrongKindError(key, value.kind.value, wanted.value)


def _data(key: str, value: Value | None, wanted: Kind) -> Any:
    check_kind(key, value, wanted)
    return value.data if value is not None else None


def _sets(request: kv.KeysRequest, values: Sequence[Value | None]) -> list[dict[str, None]]:
    return [_data(key, value, Kind.SET) or {} for key, value in zip(request.keys, values, strict=True)]


def number_of(key: str, value: Value | None) -> int:
    """Return the number that an increment adds to; 0 for a key without a value.

    Raises:
        errors.StoreError: The value is not a number.
    """
    if value is None:
        return 0
    if value.kind is Kind.COUNTER:
        number: int = value.data
        return number
    if value.kind is not Kind.TEXT:
        raise errors.WrongKindError(key, value.kind.value, Kind.COUNTER.value)
    # A paged or a long text is longer than any number.
    if not isinstance(value.data, str) or not DECIMAL.match(value.data):
        raise errors.NotANumberError(key)
    return int(value.data)


class Answer:
    """The elements of a large answer, collected in their encoded form while their size is within the limit.

    Args:
        operation: Name of the operation, for the error.
        maximum: Limit of the answer in bytes.
        advice: What a caller may do instead, for the error.

    Attributes:
        texts: The elements.
    """

    def __init__(self, operation: str, maximum: int, advice: str = "") -> None:
        self.texts = EncodedTexts()
        self._advice = advice
        self._operation = operation
        self._maximum = maximum

    def check(self, size: int) -> None:
        """Check a size in bytes.

        Raises:
            errors.AnswerTooLargeError: It is over the limit.
        """
        if size > self._maximum:
            raise errors.AnswerTooLargeError(self._operation, size, self._maximum, self._advice)

    def add(self, elements: list[str], encoded: bytes | None = None) -> None:
        """Add elements, likewise.

        Args:
            elements: The elements.
            encoded: An encoded array that has these and no others.
        """
        if encoded is not None:
            self.texts.add_encoded(encoded, len(elements))
        elif elements:
            self.texts.add(elements)
        self.check(self.texts.size)
