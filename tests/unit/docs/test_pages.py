"""The pages for people: links that lead somewhere, names that exist, and a README that is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contracts.extensions import HANDLE_CHANGE
from contracts.operations import REQUESTS
from provider import errors

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)

MAX_README_LINES, MAX_README_WORDS = 150, 1100
"""A page of this size is read to its end."""

HEADLESS = re.compile(
    r"\b(?:what (?:is|has|stands|was|it|they|there|other)|somebody|nobody|whoever|(?:is|are) none)\b", re.IGNORECASE
)


def text_of(page: Path) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_to_a_file_or_a_heading_leads_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("operation", [*REQUESTS, HANDLE_CHANGE])
def test_each_operation_is_described(operation: str) -> None:
    assert f"`{operation}`" in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def error_texts(parent: type[errors.ProviderError]) -> list[str]:
    """Return the templates of all errors below a class, without those that show no more than a reason."""
    texts = []
    for error in parent.__subclasses__():
        if error is not errors.InvocationDeniedError:
            texts += [error.text] if vars(error).get("text", "{reason}") != "{reason}" else []
            texts += error_texts(error)
    return texts


@pytest.mark.parametrize("text", error_texts(errors.InvocationError) + error_texts(errors.StoreError))
def test_each_error_that_an_actor_may_see_is_described(text: str) -> None:
    table = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("## Errors")[2]
    described = re.findall(
        r"`([^`]+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if line[:1] == "|")
    )
    patterns = (".*".join(re.escape(part) for part in re.split(r"…|\b[NM]\b", one)) for one in described)
    assert any(re.search(pattern, text) for pattern in patterns)


def test_the_readme_is_short_enough_to_be_read() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= MAX_README_LINES
    assert len(readme.split()) <= MAX_README_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_sentence_names_its_subject(page: Path) -> None:
    assert HEADLESS.findall(re.sub(r"`[^`\n]*`", "", text_of(page))) == []
