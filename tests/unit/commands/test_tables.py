"""Tables as a pipe and a terminal get them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from provider.commands.tables import aligned

CELLS = st.text(st.characters(exclude_categories=["C", "Z", "M"]), max_size=60)


def test_columns_are_aligned() -> None:
    assert aligned([["a", "bb", ""], ["ccc", "d", "e"]]) == ["a    bb", "ccc  d   e"]


def test_a_cell_is_shortened_only_where_the_terminal_is_too_narrow() -> None:
    rows = [["Key", "Value"], ["a", "x" * 40]]
    assert aligned(rows)[1] == "a    " + "x" * 40
    assert aligned(rows, 45)[1] == "a    " + "x" * 40
    assert aligned(rows, 44)[1] == "a    " + "x" * 38 + "…"


def test_a_character_of_two_columns_counts_as_two() -> None:
    assert aligned([["世界", "a"], ["b", "c"]]) == ["世界  a", "b     c"]


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=5)))
def test_lines_fit_a_terminal_of_80_columns(rows: list[list[str]]) -> None:
    assert all(cell_len(line) <= 80 for line in aligned(rows, 80))


@given(st.lists(CELLS, min_size=2, max_size=2), st.integers(1, 20))
def test_a_terminal_too_narrow_for_any_table_gets_one_all_the_same(row: list[str], columns: int) -> None:
    assert len(aligned([row], columns)) == 1
