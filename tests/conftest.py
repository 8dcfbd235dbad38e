"""Marks every test with its tier, which is the name of its folder below `tests`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
TIERS = frozenset({"unit", "component", "conformance", "integration", "process", "containers"})

# A busy machine makes examples slow, which is not an error.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance tests of something built")
    group.addoption(
        "--provider-command",
        help="command of the provider to test in place of this checkout's; it gets an empty environment",
    )
    group.addoption("--nats-url", help="server of the lattice, in place of one that the tests start")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in TIERS:
            item.add_marker(getattr(pytest.mark, folder))
