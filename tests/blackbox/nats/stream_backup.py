"""Backups of streams through the server's own interface, as `nats stream backup` and `restore` make them.

Imports nothing of the project. Source: nats-server jetstream_api.go, ADR-1.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg

_SECONDS = 5.0


class Backup(NamedTuple):
    """A stream with its configuration and its messages."""

    config: dict[str, Any]
    state: dict[str, Any]
    chunks: list[bytes]


async def back_up(client: Client, stream: str) -> Backup:
    """Copy a stream, which may be in use."""
    chunks: list[bytes] = []
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def take(message: Msg) -> None:
        if message.data:
            chunks.append(message.data)
            await message.respond(b"")
        elif not end.done():
            end.set_result(None)

    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=take)
    answer = await _ask(client, f"$JS.API.STREAM.SNAPSHOT.{stream}", {"deliver_subject": inbox, "no_consumers": True})
    await asyncio.wait_for(end, _SECONDS)
    await subscription.unsubscribe()
    return Backup(answer["config"], answer["state"], chunks)


async def restore(client: Client, backup: Backup) -> None:
    """Make the stream of a backup, which must not exist."""
    asked = {"config": backup.config, "state": backup.state}
    answer = await _ask(client, f"$JS.API.STREAM.RESTORE.{backup.config['name']}", asked)
    for chunk in backup.chunks:
        await client.request(answer["deliver_subject"], chunk, timeout=_SECONDS)
    done = json.loads((await client.request(answer["deliver_subject"], b"", timeout=_SECONDS)).data)
    assert "error" not in done, done


async def remove(client: Client, stream: str) -> None:
    await _ask(client, f"$JS.API.STREAM.DELETE.{stream}", None)


async def _ask(client: Client, subject: str, argument: Any) -> dict[str, Any]:
    payload = b"" if argument is None else json.dumps(argument).encode()
    answer: dict[str, Any] = json.loads((await client.request(subject, payload, timeout=_SECONDS)).data)
    assert "error" not in answer, answer
    return answer
