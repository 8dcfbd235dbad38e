"""No order of steps loses or damages a paged value; without any one of the design's rules, some order does."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tests.unit.keyvalue.bucket.pages.model.rules import ALL, Rules
from tests.unit.keyvalue.bucket.pages.model.scenarios import WHOLE, WITHOUT
from tests.unit.keyvalue.bucket.pages.model.search import search, told

GATE_STATES = 6000
"""States of a scenario that are visited here, the nearest first. `python -m` on the model visits more."""

MOST_STATES = 30_000
"""States within which the fault of a missing rule has to show; the farthest is found after 12,000."""


@pytest.mark.parametrize("is_replicated", [False, True], ids=["one replica", "three replicas"])
@pytest.mark.parametrize("name", WHOLE)
def test_with_all_rules_no_value_is_lost(name: str, is_replicated: bool) -> None:
    found = search(WHOLE[name]._replace(is_replicated=is_replicated).world(ALL), GATE_STATES)
    assert found.fault == "", told(found.path)
    assert found.is_whole or found.states >= GATE_STATES


@pytest.mark.parametrize("rule", [field.name for field in fields(Rules)])
def test_without_a_rule_a_value_is_lost(rule: str) -> None:
    found = search(WITHOUT[rule].world(replace(ALL, **{rule: False})), MOST_STATES)
    assert found.fault
