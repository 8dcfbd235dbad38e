"""The language of docstrings, comments, README and docs: a few phrases that read badly are counted and kept rare."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT_FOLDER = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("contracts", "provider", "image", "tests")
DOCUMENTS = ("README.md", "docs/*.md")

HEADLESS = re.compile(r"\bwhat (?:is|has|stands|was|it|they|there|others?)\b", re.IGNORECASE)
"""A clause in place of a noun: "what is stored" for "the value"."""

UNNAMED = re.compile(r"\b(?:somebody|nobody|whoever)\b", re.IGNORECASE)
"""A subject without a name: "somebody who waits" for "a task that waits"."""

ABSENT = re.compile(r"\b(?:is|are) none\b")
QUESTION = re.compile(r"(?:What|How|Who|Which|Whose|Whether)\b")
FRAGMENT = re.compile(r"^\s+\*{0,2}\w+: (?:Of|From|For)\b")
"""An entry of `Args` or `Attributes` that is no noun phrase: "name: Of the consumer." for "name: Name of the consumer."."""

COMMENT = re.compile(r"(?:^ *|  )#+ ")
"""The formatter puts two spaces before a comment that follows code."""

MOST = 20
"""Uses of `HEADLESS` and of `UNNAMED` that are allowed, for the few sentences in which they read well."""


class Line(NamedTuple):
    """A line of prose. `is_first` tells whether a docstring begins with it."""

    place: str
    text: str
    is_first: bool


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    paths = [path for folder in CODE_FOLDERS for path in sorted((PROJECT_FOLDER / folder).rglob("*.py"))]
    found = [line for path in paths if path != Path(__file__) for line in prose_of_code(path)]
    for pattern in DOCUMENTS:
        for path in sorted(PROJECT_FOLDER.glob(pattern)):
            found += prose_of(path, path.read_text(encoding="utf-8"), 1)
    assert len(found) > 1000
    return found


def prose_of_code(path: Path) -> Iterator[Line]:
    """Yield the lines of all comments and of all strings that are statements: docstrings and those of constants."""
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        if comment := COMMENT.search(line):
            yield Line(place(path, number), line[comment.end() :], is_first=False)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from prose_of(path, node.value.value, node.lineno, has_first=True)


def prose_of(path: Path, text: str, start: int, *, has_first: bool = False) -> Iterator[Line]:
    for number, line in enumerate(text.splitlines()):
        yield Line(place(path, start + number), line, is_first=has_first and number == 0)


def place(path: Path, number: int) -> str:
    return f"{path.relative_to(PROJECT_FOLDER)}:{number}"


def uses(pattern: re.Pattern[str], lines: list[Line]) -> list[str]:
    """Return each use of a pattern with its place."""
    return [f"{line.place}: {found[0].strip()!r}" for line in lines for found in pattern.finditer(line.text)]


def test_no_docstring_begins_with_a_question_word(lines: list[Line]) -> None:
    found = [f"{line.place}: {line.text}" for line in lines if line.is_first and QUESTION.match(line.text)]
    assert not found, "\n".join(found)


def test_absence_is_stated_plainly(lines: list[Line]) -> None:
    found = uses(ABSENT, lines)
    assert not found, "\n".join(found)


def test_arguments_are_described_by_noun_phrases(lines: list[Line]) -> None:
    found = uses(FRAGMENT, lines)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("pattern", [HEADLESS, UNNAMED], ids=["headless clauses", "unnamed subjects"])
def test_vague_words_are_rare(lines: list[Line], pattern: re.Pattern[str]) -> None:
    found = uses(pattern, lines)
    assert len(found) <= MOST, "\n".join([f"{len(found)}, at most {MOST}:", *found])
