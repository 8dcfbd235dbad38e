"""Answers to the question for statistics: only those of providers count, and none is larger than a provider's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contracts.statistics import MOST_ROWS, InstanceStatistics
from provider.commands.instances import instance_from


def answer(data: dict[str, Any] | None = None, **changed: Any) -> bytes:
    own = {"name": "keyvalue-nats-VKEY", "id": "one", "version": "1.0.0", "data": data or {}, "endpoints": []}
    return msgspec.json.encode(own | changed)


def test_an_answer_of_another_release_is_understood() -> None:
    found = instance_from(answer({"lattice": "l", "a_new_field": [1]}))
    assert found is not None
    assert (found.id, found.version, found.data) == ("one", "1.0.0", InstanceStatistics(lattice="l"))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not JSON",
        answer(name="other-service"),
        answer(id=7),
        answer(id="x" * 1000),
        answer({"links": [{"actor_id": "M", "link_name": "l"}] * (MOST_ROWS + 1)}),
        answer({"links": [{"actor_id": "M" * 1000, "link_name": "l"}]}),
        answer({"refused": {f"reason {number}": 1 for number in range(100)}}),
        answer({"in_flight": -1}),
        answer({"lattice": None}),
    ],
)
def test_an_answer_that_no_provider_sends_is_left_out(payload: bytes) -> None:
    assert instance_from(payload) is None


def test_an_operation_is_shown_once() -> None:
    found = instance_from(answer({"operations": [{"operation": "KeyValue.Get"}] * 2}))
    assert found is not None
    assert [operation.operation for operation in found.data.operations] == ["KeyValue.Get"]
