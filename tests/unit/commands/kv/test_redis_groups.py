"""Values of Redis are read in groups that fit into memory."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from provider.commands.kv.redis_source import groups

MOST = 10


@given(st.lists(st.integers(0, 25)))
def test_each_value_is_in_one_group_and_only_a_large_one_exceeds_the_limit(sizes: list[int]) -> None:
    found = [sizes[start:end] for start, end in groups(sizes, MOST)]
    assert [size for group in found for size in group] == sizes
    assert all(sum(group) <= MOST or len(group) == 1 for group in found)
    assert all(sum(one) + other[0] > MOST for one, other in itertools.pairwise(found))
