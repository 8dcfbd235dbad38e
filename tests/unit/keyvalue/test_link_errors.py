"""The link value that an error names is one that the link's author can correct."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from contracts.secret import Secret
from provider import errors
from provider.keyvalue.connections import ConnectionPool
from provider.nats.settings import ConnectionSettings

REASON = 'Permissions Violation for Publish to "$JS.API.STREAM.INFO.KV_State"'
LATTICE = ConnectionSettings(("nats://user:password@h:4222",), client_seed=Secret("seed"))


@pytest.mark.parametrize(
    ("own", "setting"),
    [
        ({"user": "u", "password": Secret("p")}, "USER"),
        ({"token": Secret("t")}, "TOKEN"),
        ({"creds_file": "f"}, "CREDS_FILE"),
        ({}, "URL"),
    ],
)
def test_a_missing_permission_names_the_value_that_gives_the_user(own: dict[str, Any], setting: str) -> None:
    pool = ConnectionPool(cast(Any, SimpleNamespace(settings=LATTICE)), "test")
    error = pool.link_error(errors.PermissionsError(REASON), ConnectionSettings(("nats://h:4222",), **own))
    assert (error.setting, error.reason) == (setting, REASON)


def test_a_missing_permission_of_the_lattices_user_names_no_value() -> None:
    pool = ConnectionPool(cast(Any, SimpleNamespace(settings=LATTICE)), "test")
    assert str(pool.link_error(errors.PermissionsError(REASON), LATTICE)) == REASON
