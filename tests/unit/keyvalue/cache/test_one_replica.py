"""One replica is an ordinary store with limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.cache.operations import CacheLimits
from provider.keyvalue.kinds import Value
from provider.keyvalue.tables import CHANGES, READS, READS_OF_MANY
from tests.unit.keyvalue.cache.exchange import (
    KEYS,
    attempt,
    change,
    changes,
    discard_all,
    replica_of,
    seen,
)


@given(st.lists(st.tuples(changes, st.integers(0, 3000)), max_size=30))
def test_one_replica_answers_as_the_values_do(steps: list[tuple[kv.SingleKeyRequest, int]]) -> None:
    replica, model, now_ms = replica_of(1), dict[str, Value](), 1000
    for request, later_ms in steps:
        now_ms += later_ms

        def by_model(request: kv.SingleKeyRequest = request, now_ms: int = now_ms) -> Any:
            before = model.get(request.key)
            before = None if before is None or before.is_expired(now_ms) else before.copy()
            value, result, *_ = CHANGES[type(request)](request, before, now_ms)
            model.pop(request.key, None)
            if value is not None:
                model[request.key] = value
            return result

        assert attempt(lambda: change(replica, request, now_ms)) == attempt(by_model)  # noqa: B023
        for key in KEYS:
            expected = model.get(key)
            expected = None if expected is None or expected.is_expired(now_ms) else expected
            for read in (kv.Get(key), kv.Contains(key), kv.ListRange(key, 0, -1), kv.SetQuery(key)):
                found, wanted = (
                    attempt(lambda value=value, read=read: READS[type(read)](read, value))  # type: ignore[misc]
                    for value in (replica.read(key, now_ms), expected)
                )
                if isinstance(read, kv.SetQuery) and found[0] == wanted[0] == "answer":
                    found, wanted = (("answer", sorted(answer[1])) for answer in (found, wanted))
                assert found == wanted
        for many in (kv.SetUnion(KEYS), kv.SetIntersection(KEYS)):
            values = [replica.read(key, now_ms) for key in KEYS]
            found = attempt(lambda: READS_OF_MANY[type(many)](many, values))  # noqa: B023
            assert found[0] == "answer" or found[0] == "WrongKindError"


def test_over_a_limit_a_write_is_refused_with_both_numbers_and_deletes_go_on() -> None:
    replica = replica_of(1)
    limits = CacheLimits(keys=2, size_bytes=1000)
    change(replica, kv.Set("a", "x", 0), limits=limits)
    change(replica, kv.Increment("b", 1), limits=limits)
    with pytest.raises(errors.CacheFullError, match=r"3 keys, over MAX_KEYS: the maximum is 2"):
        change(replica, kv.SetAdd("c", "x"), limits=limits)
    with pytest.raises(errors.CacheFullError, match=r"1\d\d\d bytes, over MAX_BYTES: the maximum is 1000"):
        change(replica, kv.Set("a", "x" * 900, 0), limits=limits)
    change(replica, kv.Set("a", "y", 0), limits=limits)
    assert change(replica, kv.Del("b"), limits=limits) is True
    discard_all(replica)
    assert change(replica, kv.ListAdd("c", "x"), limits=limits) == 1


def test_an_element_that_fits_into_no_message_is_refused() -> None:
    limits = CacheLimits(event_bytes=1000)
    for request in (kv.ListAdd("a", "x" * 1000), kv.SetAdd("a", "x" * 1000)):
        with pytest.raises(errors.ValueTooLargeError, match="1001 bytes in all, over what max_payload leaves"):
            change(replica_of(1), request, limits=limits)


def test_a_text_that_fits_into_no_message_is_taken_up_to_its_own_limits() -> None:
    limits = CacheLimits(event_bytes=1000, text_limit=lambda: (5000, "what some replicas take"))
    replica = replica_of(1)
    change(replica, kv.Set("a", "x" * 4999, 0), limits=limits)
    with pytest.raises(errors.ValueTooLargeError, match="5001 bytes in all, over what some replicas take"):
        change(replica, kv.Set("a", "x" * 5000, 0), limits=limits)
    limits.value_bytes = 3000
    with pytest.raises(errors.ValueTooLargeError, match="over the cache's MAX_VALUE_SIZE: the maximum is 3000"):
        change(replica, kv.Set("a", "x" * 3001, 0), limits=limits)
    assert seen(replica, "a") == ("text", "x" * 4999, 0)
