"""The size of modules, functions and folders, and of the README."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

PROJECT_FOLDER = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("contracts", "provider", "image", "tests")

MOST_CODE_LINES = 400
MOST_MODULES = 18
MOST_FUNCTION_LINES = 60
MOST_README_LINES = 150

NOT_YET = (
    "provider/commands/kv/bucket_commands.py",
    "tests/integration/test_watch.py",
    "tests/process/cache/test_cache_replication.py",
)
"""Modules that are still to be split."""


@pytest.fixture(scope="module")
def modules() -> dict[str, str]:
    """The text of every module, by its path in the project."""
    paths = [path for folder in CODE_FOLDERS for path in (PROJECT_FOLDER / folder).rglob("*.py")]
    texts = {str(path.relative_to(PROJECT_FOLDER)): path.read_text(encoding="utf-8") for path in sorted(paths)}
    return {path: text for path, text in texts.items() if path not in NOT_YET}


def test_modules_are_small(modules: dict[str, str]) -> None:
    sizes = {
        path: sum(1 for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
        for path, text in modules.items()
    }
    assert {path: size for path, size in sizes.items() if size > MOST_CODE_LINES} == {}


def test_functions_are_short(modules: dict[str, str]) -> None:
    sizes = {
        f"{path}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path, text in modules.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: size for name, size in sizes.items() if size > MOST_FUNCTION_LINES} == {}


def test_folders_have_few_modules(modules: dict[str, str]) -> None:
    counts = Counter(str(Path(path).parent) for path in modules if not path.endswith("__init__.py"))
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_the_readme_is_short() -> None:
    lines = (PROJECT_FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_README_LINES
