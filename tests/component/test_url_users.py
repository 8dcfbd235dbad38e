"""The user, password or token in a server's URL, as a server receives it."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.secret import Secret
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from tests.blackbox.nats.raw_server import RawServer

characters = st.characters(exclude_categories=["Cs", "Cc"])


@settings(max_examples=20, deadline=None)
@given(st.text(characters, min_size=1, max_size=20), st.none() | st.text(characters, max_size=20))
def test_the_user_of_a_url_is_sent_without_its_percent_encoding(user: str, password: str | None) -> None:
    written = quote(user, safe="") + ("" if password is None else ":" + quote(password, safe=""))
    expected = {"auth_token": user} if password is None else {"user": user, "pass": password}
    assert asyncio.run(sent_to(f"{written}@")) == expected


def test_a_user_of_another_setting_is_sent_as_it_is() -> None:
    own = ConnectionSettings((), user="a%40b", password=Secret("%25"))
    assert asyncio.run(sent_to("u%40v:p@", own)) == {"user": "a%40b", "pass": "%25"}


async def sent_to(userinfo: str, own: ConnectionSettings | None = None) -> dict[str, str]:
    """Return the user, password and token that a server gets from a client with this URL."""
    server = RawServer(lambda reader, writer: talk(server, reader, writer))
    async with server:
        url = server.url.replace("//", f"//{userinfo}")
        user, password = (own.user, own.password) if own else ("", Secret(""))
        async with Connection(ConnectionSettings((url,), user=user, password=password), "test", 5):
            pass
    (connect,) = server.connects
    return {name: connect[name] for name in ("user", "pass", "auth_token") if name in connect}


async def talk(server: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await server.welcome(reader, writer, auth_required=True)
    while line := await reader.readline():
        if line.startswith(b"PING"):
            writer.write(b"PONG\r\n")
