"""The dashboard and the alert rules name only metrics and labels that the exporter has, and each rule is explained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.core import Metric

from contracts.statistics import (
    BucketStatistics,
    CacheStatistics,
    InstanceStatistics,
    LinkStatistics,
    WatchStatistics,
)
from provider import errors
from provider.commands.exporter.scrape import families
from provider.telemetry.metrics import METRICS
from tests.docs.dashboard import DASHBOARD, panels, queries

ROOT = Path(__file__).parents[3]
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus-rules.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
PANELS = panels()
EXPRESSIONS = [rule["expr"] for rule in RULES] + [query for panel in PANELS for query, _ in queries(panel)]


def labels_by_sample() -> dict[str, set[str]]:
    """Return the labels of each series that the exporter has, by the name of its samples."""
    found: dict[str, set[str]] = {}
    for family in families([], is_reachable=True, seconds=0.0):
        labels = set(getattr(family, "_labelnames", ()))
        if family.type == "histogram":
            found |= {f"{family.name}{suffix}": labels for suffix in ("_sum", "_count")}
            found[f"{family.name}_bucket"] = labels | {"le"}
        else:
            found[sample_name(family)] = labels
    return found


def sample_name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else str(family.name)


LABELS = labels_by_sample()
OF_CALLERS = {
    *("MalformedInvocationError", "InvocationTooLargeError", "ResponseTooLargeError", "TooManyKeysError"),
    *("BadCursorError", "NoSuchStoreError", "EmptyKeyError", "KeyTooLongError", "ValueTooLargeError"),
    *("TooMuchAtOnceError", "AnswerTooLargeError", "ElementTooLargeError", "CollectionFullError"),
    *("WrongKindError", "NotANumberError", "CounterOverflowError"),
    "ShuttingDownError",
}
"""Errors that callers make themselves, and the one that ends of instances on purpose make."""


def nodes(expression: Any) -> Iterator[Any]:
    """Yield the nodes of a parsed query."""
    yield expression
    for name in ("lhs", "rhs", "expr", "vector_selector", "param"):
        if (child := getattr(expression, name, None)) is not None:
            yield from nodes(child)
    for child in getattr(expression, "args", ()):
        yield from nodes(child)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_each_query_names_metrics_and_labels_that_exist(text: str) -> None:
    found = list(nodes(promql_parser.parse(text)))
    selectors = [node for node in found if isinstance(node, promql_parser.VectorSelector)]
    assert selectors
    known: set[str] = set()
    for selector in selectors:
        assert selector.name in LABELS
        assert {matcher.name for matcher in selector.matchers.matchers} <= LABELS[selector.name]
        known |= LABELS[selector.name]
    grouped = re.findall(r"\b(?:by|without|on|ignoring) ?\(([^)]*)\)", text)
    assert {label.strip() for labels in grouped for label in labels.split(",")} <= known


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_each_class_of_errors_that_a_query_names_exists(text: str) -> None:
    for name in re.findall(r"\b[A-Z]\w+Error\b", text):
        assert issubclass(getattr(errors, name), errors.ProviderError)


def errors_in(alert: str) -> set[str]:
    """Return the classes of errors that a rule names."""
    (rule,) = (rule for rule in RULES if rule["alert"] == alert)
    return set(re.findall(r"\b[A-Z]\w+Error\b", rule["expr"]))


def names_below(base: type[errors.ProviderError]) -> set[str]:
    found = {class_.__name__ for class_ in base.__subclasses__()}
    return found.union(*(names_below(class_) for class_ in base.__subclasses__()))


def test_each_denial_raises_an_alert() -> None:
    assert errors_in("KeyvalueNatsClock") | errors_in("KeyvalueNatsDenied") == names_below(errors.InvocationDeniedError)


def test_each_error_of_a_call_raises_an_alert_unless_its_caller_can_prevent_it() -> None:
    of_calls = names_below(errors.InvocationError) | names_below(errors.StoreError)
    of_calls -= names_below(errors.InvocationDeniedError) | {"InvocationDeniedError"}
    assert errors_in("KeyvalueNatsCallsFail") == of_calls - OF_CALLERS


def test_a_rule_for_which_one_error_is_enough_sees_the_first_one() -> None:
    """The counter of an error appears with its first value, and `increase` knows no growth before that."""
    fresh = InstanceStatistics(
        buckets=[BucketStatistics(bucket="b")],
        caches=[CacheStatistics(cache="c")],
        links=[LinkStatistics(actor_id="a", link_name="l", watch=WatchStatistics())],
    )
    absent = {metric.name for metric in METRICS if not metric.samples(fresh)}
    increased = re.compile(r"increase\(((\w+)\S*)\[10m\]\)")
    found = [(rule["expr"], one) for rule in RULES for one in increased.finditer(rule["expr"])]
    of_errors = [(expression, one[1]) for expression, one in found if one[2] in absent]
    assert len(of_errors) >= 4
    for expression, selector in of_errors:
        assert f"(({selector} unless {selector} offset 10m) or increase({selector}[10m]))" in expression


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_rule_has_a_severity_and_the_labels_of_its_text(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    selectors = [node for node in nodes(promql_parser.parse(rule["expr"])) if hasattr(node, "matchers")]
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    grouped = re.search(r"\bby \(([^)]*)\)", rule["expr"])
    kept = set(grouped[1].split(", ")) if grouped else set.union(*(LABELS[selector.name] for selector in selectors))
    assert used <= kept
    assert f"| `{rule['alert']}` |" in (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_the_panels_fill_the_grid_without_overlap_and_are_described() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & own
        cells |= own
        assert place["x"] + place["w"] <= 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["description"] for panel in PANELS)
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    named = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(PANELS)))
    assert named <= variables
