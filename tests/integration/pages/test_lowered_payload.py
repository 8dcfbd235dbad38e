"""Values that were stored while the server took larger messages: they are read, and hold up no other key."""

from __future__ import annotations

import pytest

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.link_values import Consistency
from tests.integration.conftest import MakeServer
from tests.integration.pages.open_pages import soon
from tests.integration.pages.test_paged_keys import Client, client

ELEMENTS = [f"{number}{'x' * 400_000}" for number in range(3)]


async def set_text(one: Client, key: str, text: str) -> None:
    await one.engine.change(kv.Set(key, text, 0), key, soon())


async def test_values_of_a_higher_limit_are_read_and_hold_up_no_other_key(make_server: MakeServer) -> None:
    server = make_server()
    with server:
        async with client(server) as one:
            name = one.bucket.name
            await set_text(one, "text", "t" * 900_000)
            await one.all(kv.SetAdd("k", element) for element in ELEMENTS)
        server.config = "max_payload: 32768"
        server.restart()
        async with client(server, name) as one:
            text = await one.bucket.read("text", Consistency.STRONG, soon())
            assert text is not None
            assert text.data == "t" * 900_000
            assert await one.members() == set(ELEMENTS)
            # A deletion of so long a member changes the tree, where the one that was added here comes into the leaf of another.
            await one.change(kv.SetAdd("k", "1"))
            with pytest.raises(errors.ValueTooLargeError, match=r"'k'.*max_payload"):
                await one.change(kv.SetDel("k", ELEMENTS[0]))
            await set_text(one, "other", "o" * 100_000)
            assert await one.members() == {*ELEMENTS, "1"}
