"""The processes and events that are searched together, with all rules and with each rule taken out."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.unit.keyvalue.bucket.pages.model.bystanders import Reader
from tests.unit.keyvalue.bucket.pages.model.collectors import Collector
from tests.unit.keyvalue.bucket.pages.model.rules import Rules
from tests.unit.keyvalue.bucket.pages.model.world import World, start
from tests.unit.keyvalue.bucket.pages.model.writers import Writer


class Scenario(NamedTuple):
    """Processes, and what else may happen, each event as often as it is named."""

    processes: tuple[Any, ...]
    events: tuple[str, ...] = ()
    is_replicated: bool = False
    is_crowded: bool = False

    def world(self, rules: Rules) -> World:
        world = start(rules, self.processes, self.events, is_replicated=self.is_replicated)
        return world._replace(is_crowded=self.is_crowded)


_EDIT, _SET, _DELETE = Writer("x", "edit"), Writer("y", "set"), Writer("d", "delete")
_ROUNDS = Collector(rounds=2)

WHOLE = {
    "two writers and a collector": Scenario((_EDIT, _SET, _ROUNDS), ("tick",)),
    "a value that ends": Scenario((_EDIT, _ROUNDS), ("tick", "tick", "vanish")),
    "a value that others overwrite": Scenario((_SET, _ROUNDS), ("tick", "tick", "overwrite")),
    "a value that is deleted": Scenario((_EDIT, _DELETE, _ROUNDS), ("tick", "tick")),
    "a reader": Scenario((_EDIT, Reader(), _ROUNDS), ("tick", "tick")),
    "a stream with much garbage": Scenario((_EDIT, _SET, Reader(), _ROUNDS), ("tick",), is_crowded=True),
    "two collectors": Scenario((_EDIT, _ROUNDS, _ROUNDS), ("tick",)),
    "a backup that is restored": Scenario((_EDIT, _ROUNDS), ("tick", "tick", "back up", "lose", "restore")),
}
"""The scenarios in which all rules together leave no fault, by name."""

WITHOUT = {
    "never_blind": Scenario((_EDIT, _ROUNDS), ("tick",)),
    "never_nothing": Scenario((_SET, _ROUNDS), ("tick", "vanish")),
    "new_pages": Scenario((_EDIT, _ROUNDS), ("tick", "overwrite")),
    "certain_loss": Scenario((_EDIT,)),
    "grace": Scenario((_EDIT, Reader())),
    "bounded_purge": Scenario((_DELETE, _SET), ("tick",)),
    "pages_first": Scenario((_EDIT, _ROUNDS), ("tick", "overwrite")),
    "two_rounds": Scenario((_EDIT, Reader(), _ROUNDS), ("tick",)),
    "strong_head": Scenario((_EDIT, _ROUNDS), ("tick", "overwrite")),
    "whole_walk": Scenario((_ROUNDS,), ("tick",)),
    "fence": Scenario((_EDIT, _ROUNDS), ("tick",)),
    "own_id": Scenario((_EDIT, _ROUNDS), ("tick",), is_replicated=True),
    "known_fence": Scenario((_EDIT, _ROUNDS), ("tick",)),
    "same_streams": Scenario((_EDIT, _ROUNDS), ("tick", "tick", "back up", "lose", "restore")),
    "leased_absence": Scenario((Reader(),)),
    "head_again": Scenario((_EDIT, Reader()), ("tick",)),
}
"""The scenario in which a fault shows when a rule is taken out, by the name of the rule."""
