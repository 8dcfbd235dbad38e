"""Every operation of the contracts is known to everything that has to know it; a failure says where to add it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from contracts.extensions import SetMany
from contracts.keyvalue import KeysRequest, Request
from contracts.operations import REQUESTS, decode_request, encode_request, operation_name
from provider import wrpc_calls
from provider.commands.arguments import request_from
from provider.commands.dev_lattice import actor
from provider.commands.errors import ArgumentsError
from provider.keyvalue.cache.operations import MUTATORS
from provider.keyvalue.conditional import CONDITIONS, Delete, Expire, Put, PutPaged, PutValue
from provider.keyvalue.tables import CHANGES, READS, READS_OF_MANY
from provider.serving import calls

ROOT = Path(__file__).parents[2]
TYPES = set(REQUESTS.values())

OF_OTHERS = {Put, PutPaged, PutValue, Delete, Expire, *wrpc_calls.OPERATIONS}
"""Operations of `keyvalue-nats kv`, of the state-proxy and of components; actors cannot call them."""

Tables = dict[str, Mapping[type[Request], Any]]

BUCKET: Tables = {
    "READS in provider/keyvalue/tables.py": READS,
    "READS_OF_MANY in provider/keyvalue/tables.py": READS_OF_MANY,
    "CHANGES in provider/keyvalue/tables.py": CHANGES,
    "CONDITIONS in provider/keyvalue/conditional.py": CONDITIONS,
}
CACHE: Tables = {
    "READS in provider/keyvalue/tables.py": READS,
    "READS_OF_MANY in provider/keyvalue/tables.py": READS_OF_MANY,
    "MUTATORS in provider/keyvalue/cache/operations.py": MUTATORS,
}
BACKENDS = {
    "bucket": (BUCKET, "provider/keyvalue/bucket/store.py"),
    "cache": (CACHE, "provider/keyvalue/cache/store.py"),
}
"""Backend -> its tables by request type, and the module that handles the remaining types by their names."""

every_operation = pytest.mark.parametrize("operation", REQUESTS)


def named_in(module: str) -> set[type[Request]]:
    """Return the request types whose names occur in the code of a module."""
    nodes = list(ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return {type_ for type_ in TYPES if type_.__name__ in names}


@pytest.mark.parametrize("backend", BACKENDS)
@every_operation
def test_an_operation_is_known_to_both_backends(operation: str, backend: str) -> None:
    tables, module = BACKENDS[backend]
    known = {type_ for table in tables.values() for type_ in table} | named_in(module)
    if REQUESTS[operation] not in known:
        places = ", ".join(tables)
        pytest.fail(
            f"{operation} is not known to the {backend}: add it to one of {places}, or to {module}", pytrace=False
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_knows_nothing_but_operations(backend: str) -> None:
    for place, table in BACKENDS[backend][0].items():
        more = {type_.__name__ for type_ in table.keys() - TYPES - OF_OTHERS}
        assert more == set(), f"{place} has types that are not in REQUESTS of contracts/keyvalue.py or extensions.py"


@every_operation
def test_an_operation_is_either_a_change_or_a_read(operation: str) -> None:
    is_change = REQUESTS[operation] in calls._CHANGING
    is_read = operation in actor._READS
    if is_change == is_read:
        pytest.fail(
            f"{operation} is in {'both' if is_read else 'neither'} of _CHANGING in provider/serving/calls.py, which follows "
            "CHANGES and CONDITIONS, and _READS in provider/commands/dev_lattice/actor.py; exactly one decides whether "
            "a call without an answer has the outcome 'unknown'",
            pytrace=False,
        )


@every_operation
def test_call_takes_the_arguments_of_an_operation(operation: str) -> None:
    type_ = REQUESTS[operation]
    try:
        request = request_from(operation, arguments_for(type_))
    except ArgumentsError as error:
        pytest.fail(
            f"`keyvalue-nats call` cannot build {operation}: {error}; provider/commands/arguments.py", pytrace=False
        )
    assert type(request) is type_
    assert operation_name(request) == operation
    assert decode_request(operation, encode_request(request)) == request


def arguments_for(type_: type[Request]) -> list[str]:
    """Return arguments that fit: each is a text and a number at the same time."""
    if issubclass(type_, KeysRequest):
        return ["1", "2"]
    if issubclass(type_, SetMany):
        return ["1=2"]
    return ["1" for field in type_.__struct_fields__ if field != "expires"]


@every_operation
def test_an_operation_is_documented(operation: str) -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith(("|", "#"))]
    if not any(f"`{operation}`" in line for line in lines):
        pytest.fail(f"docs/operations.md has no heading and no row of a table with `{operation}`", pytrace=False)
