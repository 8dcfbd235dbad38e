"""Errors: a text from their fields, safe to keep, to copy and to send to another process."""

from __future__ import annotations

import ast
import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import provider
from provider import errors
from provider.errors import ProviderError


def below(root: type[ProviderError]) -> list[type[ProviderError]]:
    return [found for child in root.__subclasses__() for found in (child, *below(child))]


RAISED = [class_ for class_ in below(ProviderError) if hasattr(class_, "text") or not class_.__subclasses__()]
"""The classes without a text of their own are never raised, only those below them."""


def made(class_: type[ProviderError], text: str) -> ProviderError:
    types = {
        name: type_
        for base in reversed(class_.__mro__)
        for name, type_ in vars(base).get("__annotations__", {}).items()
    }
    return class_(*(7 if types[name] == "int" else text for name in class_.fields))


def test_an_error_takes_its_fields_by_position_or_by_name_and_no_others() -> None:
    assert vars(errors.ConnectError("gone", is_tls=True)) == {
        "reason": "gone",
        "is_credentials": False,
        "is_tls": True,
        "is_dropped": False,
    }
    make: Any = errors.StoreTimeoutError
    for given, named in (((), {}), ((1,), {}), ((1, "x", 2), {}), ((1, "x"), {"other": 1})):
        with pytest.raises(TypeError):
            make(*given, **named)


@pytest.mark.parametrize("class_", RAISED)
def test_every_error_says_something_from_its_fields(class_: type[ProviderError]) -> None:
    error = made(class_, "{x}")
    assert str(error).strip()
    assert class_.__doc__
    assert not str(error).startswith(class_.__name__)
    for field in vars(error):
        assert field in repr(error)


@pytest.mark.parametrize("class_", RAISED)
def test_an_error_survives_copying_and_another_process(class_: type[ProviderError]) -> None:
    error = made(class_, "text")
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is class_
        assert (str(same), vars(same), same.args) == (str(error), vars(error), error.args)
        assert same != error, "two errors are never equal: exceptions are compared by identity"


def test_a_text_from_outside_is_quoted_and_cut() -> None:
    assert str(errors.NotANumberError("a\nb")).startswith("key 'a\\nb' holds a text")
    long = str(errors.UnlinkedActorError("x" * 10_000))
    assert long == f"unlinked actor: {'x' * 120 + '…'!r} is not linked to this provider"


def test_a_number_with_too_many_digits_to_write_is_described() -> None:
    error = errors.CounterOverflowError("k", 10**5000, -1, 1)
    assert str(error) == "counter 'k' would be a number of many digits, outside of -1 to 1"


def test_a_bare_error_keeps_no_frame_alive() -> None:
    def fail() -> None:
        try:
            raise ValueError
        except ValueError:
            raise errors.ReplayedError  # noqa: B904  (the context is what must go)

    with pytest.raises(errors.ReplayedError) as raised:
        fail()
    kept = errors.bare(raised.value)
    assert kept is raised.value
    assert (kept.__traceback__, kept.__context__) == (None, None)


def test_no_frame_raises_an_error_that_it_goes_on_to_name() -> None:
    """The error has the frame, and the frame the error: both would stay, with all that they name, until the next collection."""
    found = [
        f"{path}, line {line}: raise {name}"
        for path in sorted(Path(provider.__file__).parent.rglob("*.py"))
        for line, name in raised_names(ast.parse(path.read_text(encoding="utf-8")), frozenset())
    ]
    assert not found


def raised_names(node: ast.AST, handled: frozenset[str | None]) -> Iterator[tuple[int, str]]:
    """Return the local variables that are raised, but for those of `except`, which end with their block."""
    if isinstance(node, ast.ExceptHandler):
        handled |= {node.name}
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name):
        name = node.exc.id
        if name not in handled and not name.lstrip("_")[0].isupper():
            yield node.lineno, name
    for child in ast.iter_child_nodes(node):
        yield from raised_names(child, handled)
