"""Buckets as an operator and other clients use them, through nats-py. Imports nothing of the project."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import nats
from nats.js.client import JetStreamContext
from nats.js.kv import KeyValue

T = TypeVar("T")


def with_jetstream(url: str, act: Callable[[JetStreamContext], Awaitable[T]], creds: Path | None = None) -> T:
    """Call a function with a JetStream client of a new connection, and return its result."""

    async def run() -> T:
        client = await nats.connect(url, user_credentials=creds)
        try:
            return await act(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(run())


def make_bucket(url: str, name: str, *, creds: Path | None = None, **config: Any) -> None:
    """Create a bucket as an operator does."""

    async def act(jetstream: JetStreamContext) -> None:
        await jetstream.create_key_value(bucket=name, **config)

    with_jetstream(url, act, creds)


def with_bucket(url: str, name: str, act: Callable[[KeyValue], Awaitable[T]]) -> T:
    """Call a function with a bucket, through a new connection, and return its result."""

    async def run(jetstream: JetStreamContext) -> T:
        return await act(await jetstream.key_value(name))

    return with_jetstream(url, run)
