"""The events of the log as the code writes them: name, levels, fields."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

_LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}


@dataclass
class LogEvent:
    """An event, in all places that log it."""

    name: str
    levels: set[str] = field(default_factory=set)
    fields: dict[str, None] = field(default_factory=dict)
    places: set[str] = field(default_factory=set)


def events() -> dict[str, LogEvent]:
    """Return the events of the provider and of the connector, by name."""
    found: dict[str, LogEvent] = {}
    for path in sorted((ROOT / "provider").rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            for call, level in _log_calls(function):
                for name in _texts(call.args[0], function):
                    event = found.setdefault(name, LogEvent(name))
                    event.levels.add(level)
                    event.places.add(str(path.relative_to(ROOT / "provider")))
                    event.fields |= dict.fromkeys(_fields(call, function, module))
    return found


def _log_calls(function: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Yield the calls of a function that log, with their level. Those of inner functions are found with these."""
    inner = {
        node
        for child in ast.walk(function)
        if _is_function(child) and child is not function
        for node in ast.walk(child)
    }
    for node in ast.walk(function):
        if node in inner or not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "_log" and node.func.attr in _LEVELS:
            yield node, _LEVELS[node.func.attr]


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _texts(expression: ast.expr, function: ast.AST) -> set[str]:
    """Return the texts that an expression may have: one, or those that its variable is assigned."""
    if isinstance(expression, ast.Name):
        return {text for value in _assigned(expression.id, function) for text in _texts(value, function)}
    if isinstance(expression, ast.IfExp):
        return _texts(expression.body, function) | _texts(expression.orelse, function)
    assert isinstance(expression, ast.Constant), ast.dump(expression)
    return {str(expression.value)}


def _fields(call: ast.Call, function: ast.AST, module: ast.Module) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg == "extra":
            yield from _keys(keyword.value, function, module)
        elif keyword.arg == "exc_info":
            yield "trace"
    if isinstance(call.func, ast.Attribute) and call.func.attr == "exception":
        yield "trace"


def _keys(expression: ast.expr, function: ast.AST, module: ast.Module) -> Iterator[str]:
    """Yield the keys of the dictionaries that an expression is made of."""
    match expression:
        case ast.Dict():
            yield from _dict_keys(expression, function, module)
        case ast.BinOp():
            yield from _keys(expression.left, function, module)
            yield from _keys(expression.right, function, module)
        case ast.Name():
            for value in _assigned(expression.id, function):
                yield from _keys(value, function, module)
        case ast.Call(func=ast.Name(id=name)):
            for node in (found for found in ast.walk(module) if isinstance(found, ast.FunctionDef)):
                if node.name == name:
                    yield from _returned_keys(node, module)


def _dict_keys(expression: ast.Dict, function: ast.AST, module: ast.Module) -> Iterator[str]:
    for key, value in zip(expression.keys, expression.values, strict=True):
        if isinstance(key, ast.Constant):
            yield str(key.value)
        elif key is None:
            yield from _keys(value, function, module)


def _returned_keys(function: ast.FunctionDef, module: ast.Module) -> Iterator[str]:
    """Yield the keys of the dictionaries that a function returns."""
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            yield from _keys(node.value, function, module)


def _assigned(name: str, function: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets):
            yield node.value
