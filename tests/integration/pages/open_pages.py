"""A bucket with its stream of pages, opened as a provider opens them, for the tests of this folder."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from contracts.secret import Secret
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.pages.page_cache import PageCache
from provider.keyvalue.bucket.pages.page_store import StreamPageStore
from provider.keyvalue.bucket.pages.pages_stream import PagesStream
from provider.keyvalue.bucket.pages.paging import PagingSettings
from provider.keyvalue.bucket.stream import Traits, open_stream
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.link_config import BucketConfig
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner

SECONDS = 10.0


class Opened(NamedTuple):
    jetstream: JetStream
    bucket: Bucket
    pages: PagesStream
    store: StreamPageStore
    clock: ServerClock
    tasks: TaskOwner


def soon() -> float:
    return asyncio.get_running_loop().time() + SECONDS


@contextlib.asynccontextmanager
async def open_pages(
    url: str, grace_seconds: float = 60.0, name: str = "", user: str = "", **config: Any
) -> AsyncIterator[Opened]:
    """Open a bucket, by default a new one, and the pages beside it; a user's password is its name."""
    name = name or f"b-{uuid.uuid4().hex[:12]}"
    clock, tasks = ServerClock(), TaskOwner()
    async with Connection(ConnectionSettings((url,), user=user, password=Secret(user)), "test", 5) as connection:
        jetstream = JetStream(connection)
        info, level = await open_stream(jetstream, BucketConfig(name, **config), soon())
        bucket = Bucket(jetstream, name, Traits.from_info(info, level), clock, tasks, lambda: None)
        bucket.paging_settings = PagingSettings(grace_seconds=grace_seconds)
        pages = bucket.paging.stream
        yield Opened(
            jetstream, bucket, pages, StreamPageStore(pages, PageCache(), clock, tasks, grace_seconds), clock, tasks
        )
        await tasks.close()
