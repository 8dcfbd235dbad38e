"""The start and the end of the connector: environment in, exit code out."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack

import uvloop

from provider import errors, logs
from provider.keyvalue.bucket.store import BucketStore, Upkeep
from provider.keyvalue.connections import OPEN_SECONDS, ConnectionPool, link_error
from provider.nats.buckets import STREAM_NOT_FOUND, stream_name
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.state_proxy.connector import Connector
from provider.state_proxy.conversation import ClientLimits, Service
from provider.state_proxy.environment import ConnectorSettings, connector_settings, startup_error
from provider.state_proxy.keyspace import Keyspace
from provider.state_proxy.socket_file import SocketFile
from provider.state_proxy.unix_server import UnixServer
from provider.tasks import TaskOwner

_log = logging.getLogger(__name__)

_NAME = "keyvalue-nats state-proxy"
_CACHED_BYTES = 256 * 1024
"""Memory for the entries that the engine keeps between two writes of a key: a small part of the connector's 32 MiB."""

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(environment: Mapping[str, str] = os.environ) -> int:
    """Serve until a signal, and return the exit code."""
    logs.configure("off", is_json=False)
    try:
        settings = connector_settings(environment)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except errors.StartupError as error:
        sys.stderr.write(f"{_NAME}: {error}\n")
        return 1
    return 0


async def _serve(settings: ConnectorSettings) -> None:
    serving = asyncio.current_task()
    assert serving is not None, "a coroutine runs in a task"
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, serving.cancel)
    try:
        async with AsyncExitStack() as stack:
            connector = await _open(settings, stack)
            socket_file = stack.enter_context(SocketFile(settings.socket_path))
            stop = asyncio.Event()
            for number in _STOP_SIGNALS:
                loop.add_signal_handler(number, stop.set)
            service = Service(connector.max_body_bytes, connector.perform)
            await stack.enter_async_context(UnixServer(socket_file.listener, service, ClientLimits()))
            socket_file.show()
            stack.callback(socket_file.hide)
            logs.configure("info", is_json=False)
            _log.info("connector_ready", extra={"bucket": settings.bucket.name, "prefix": settings.prefix})
            gc.collect()
            gc.freeze()
            await stop.wait()
    except asyncio.CancelledError:
        return


async def _open(settings: ConnectorSettings, stack: AsyncExitStack) -> Connector:
    """Open the bucket.

    Raises:
        errors.StartupError: The bucket does not exist or cannot be reached. The text names the variable.
    """
    tasks = TaskOwner()
    connection = Connection(settings.connection, _NAME, OPEN_SECONDS)
    loop = asyncio.get_running_loop()
    try:
        await stack.enter_async_context(connection)
        stack.push_async_callback(tasks.close)
        await JetStream(connection).stream_info(stream_name(settings.bucket.name), loop.time() + OPEN_SECONDS)
    except (errors.NatsError, TimeoutError) as error:
        found = link_error(error, settings.connection)
        if isinstance(error, errors.ApiError) and error.err_code == STREAM_NOT_FOUND:
            found = errors.LinkError("BUCKET", f"bucket {settings.bucket.name!r} does not exist")
        raise startup_error(found) from None
    pool = ConnectionPool(connection, _NAME)
    keyspace = Keyspace(settings.prefix)
    upkeep = Upkeep(_CACHED_BYTES, keyspace.under)
    store = BucketStore(pool, settings.connection, settings.bucket, tasks, lambda: None, upkeep)
    store.start()
    stack.push_async_callback(store.close)
    try:
        await store.wait_open(loop.time() + OPEN_SECONDS)
    except errors.LinkUnavailableError as error:
        raise startup_error(errors.LinkError("BUCKET", error.reason)) from None
    return Connector(store, connection, keyspace)
