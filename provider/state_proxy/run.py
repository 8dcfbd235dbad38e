"""The life of the connector: it answers at once, opens the bucket, and goes on for a while after the signal to end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack

import uvloop

from contracts.secret import Secret
from provider import errors, logs
from provider.keyvalue.bucket.pages.page_cache import PageCache
from provider.keyvalue.bucket.store import BucketStore, Upkeep
from provider.keyvalue.bucket.stream import open_stream
from provider.keyvalue.connections import OPEN_SECONDS, ConnectionPool, link_error
from provider.nats.buckets import NOT_ENABLED, NOT_ENABLED_FOR_ACCOUNT, STREAM_NOT_FOUND, stream_name
from provider.nats.connect_options import parse_creds
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.state_proxy.conversation import ClientLimits
from provider.state_proxy.environment import ConnectorSettings, connector_settings, startup_error
from provider.state_proxy.keyspace import Keyspace
from provider.state_proxy.service import ConnectorService
from provider.state_proxy.socket_file import SocketFile
from provider.state_proxy.unix_server import UnixServer
from provider.state_proxy.variables import CREDS, NAME, STOP_SIGNALS
from provider.tasks import TaskOwner

_log = logging.getLogger(__name__)

_CACHED_BYTES = 256 * 1024
"""Memory for the entries that the engine keeps between two writes of a key: a small part of the connector's 32 MiB."""

_CACHED_PAGE_BYTES = 1024 * 1024
"""Memory for the pages of large values, likewise."""

_POD_GRACE_SECONDS = 24.0
"""Time for which a handler that is still at work is answered after SIGTERM. A pod has 30 seconds to end in all."""

_GRACE_SECONDS = 2.5
"""The same outside of a pod, where others wait for the end: `docker stop` kills after ten seconds."""

_IN_POD = "KUBERNETES_SERVICE_HOST"
"""A variable that every container of a pod has. Source: kubernetes.io, "Service", environment variables."""

_REFUSING_SECONDS = 1.0
"""Time for which clients are told of a wrong setting before the connector ends: more than the next request of one takes."""

_FIRST_RETRY_SECONDS = 0.25
"""The pause after a first failure to open the bucket, doubled after each further one."""

_LAST_RETRY_SECONDS = 2.0
"""The longest pause. Reads wait for the bucket, so it is short."""

_WRONG_SETTING = frozenset({STREAM_NOT_FOUND, NOT_ENABLED, NOT_ENABLED_FOR_ACCOUNT})
"""Errors of JetStream that do not pass by themselves."""


def run(socket_file: SocketFile, environment: Mapping[str, str]) -> None:
    """Serve until a signal.

    Raises:
        errors.StartupError: A setting is wrong. The text names the variable.
    """
    logs.configure("off", is_json=False)
    settings = connector_settings(environment, _credentials(environment.get(CREDS)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        grace_seconds = _POD_GRACE_SECONDS if environment.get(_IN_POD) else _GRACE_SECONDS
        runner.run(_serve(settings, socket_file, grace_seconds))


def _credentials(text: str | None) -> tuple[Secret, Secret] | None:
    """Return the user JWT and the seed in the content of a credentials file; `None` without one.

    Raises:
        errors.StartupError: The text is not such a content.
    """
    if not text:
        return None
    try:
        return parse_creds(text.replace("\\n", "\n").encode(errors="replace"))  # often written on one line
    except errors.ConnectError:
        raise errors.StartupError(f"{CREDS}: not the content of a NATS credentials file") from None


async def _serve(settings: ConnectorSettings, socket_file: SocketFile, grace_seconds: float) -> None:
    """Answer from the first moment to the last, which is SIGINT, a second signal, or the end of the grace period."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()
    is_over = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if number == signal.SIGINT or stop.done():
            is_over.set()
        if not stop.done():
            stop.set_result(None)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    service = ConnectorService(Keyspace(settings.prefix))
    async with AsyncExitStack() as stack, UnixServer(socket_file.listener, service, ClientLimits()):
        tasks = TaskOwner()
        stack.push_async_callback(tasks.close)
        tasks.start(_open_or_stop(settings, stack, service, stop), "open the bucket")
        await stop
        service.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await is_over.wait()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # once the loop is closed, one would kill the process


async def _open_or_stop(
    settings: ConnectorSettings, stack: AsyncExitStack, service: ConnectorService, stop: asyncio.Future[None]
) -> None:
    """Open the bucket, however long that takes. A wrong setting ends the connector, after all clients have been told."""
    try:
        service.opened(*await _open(settings, stack, service))
    except errors.StartupError as error:
        service.failed(str(error))
        await asyncio.sleep(_REFUSING_SECONDS)
        if not stop.done():
            stop.set_exception(error)
        return
    logs.configure("info", is_json=False)
    _log.info("connector_ready", extra={"bucket": settings.bucket.name, "prefix": settings.prefix})
    gc.collect()
    gc.freeze()


async def _open(
    settings: ConnectorSettings, stack: AsyncExitStack, service: ConnectorService
) -> tuple[BucketStore, Connection]:
    """Try to open the bucket until it succeeds; return it and its connection.

    Raises:
        errors.StartupError: A setting is wrong. The text names the variable.
    """
    pause, reason = _FIRST_RETRY_SECONDS, ""
    while True:
        async with AsyncExitStack() as attempt:
            try:
                opened = await _attempt(settings, attempt)
            except (errors.LinkError, errors.NatsError, TimeoutError) as error:
                if _is_wrong_setting(error):
                    raise startup_error(link_error(error, settings.connection)) from None
                found = str(startup_error(link_error(error, settings.connection)))
            else:
                stack.push_async_exit(attempt.pop_all())
                return opened
        if found != reason:
            reason = found
            service.reason = reason
            logs.configure("info", is_json=False)
            _log.warning("bucket_unavailable", extra={"bucket": settings.bucket.name, "reason": reason})
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LAST_RETRY_SECONDS)


async def _attempt(settings: ConnectorSettings, stack: AsyncExitStack) -> tuple[BucketStore, Connection]:
    """Connect, check that the bucket is one, and start the store, which keeps it open.

    Raises:
        errors.LinkError, errors.NatsError, TimeoutError: The bucket cannot be opened.
    """
    tasks = TaskOwner()
    connection = Connection(settings.connection, NAME, OPEN_SECONDS)
    await stack.enter_async_context(connection)
    stack.push_async_callback(tasks.close)
    jetstream, deadline = JetStream(connection), asyncio.get_running_loop().time() + OPEN_SECONDS
    try:
        await jetstream.stream_info(stream_name(settings.bucket.name), deadline)
    except errors.ApiError as error:
        if error.err_code == STREAM_NOT_FOUND:
            raise errors.LinkError("BUCKET", f"bucket {settings.bucket.name!r} does not exist") from None
        raise
    await open_stream(jetstream, settings.bucket, deadline)
    upkeep = Upkeep(
        _CACHED_BYTES,
        Keyspace(settings.prefix).under,
        page_cache=PageCache(_CACHED_PAGE_BYTES),
        creates_pages=True,
    )
    pool = ConnectionPool(connection, NAME)
    store = BucketStore(pool, settings.connection, settings.bucket, tasks, lambda: None, upkeep)
    store.start()
    stack.push_async_callback(store.close)
    with contextlib.suppress(errors.LinkUnavailableError):  # the store goes on trying
        await store.wait_open(deadline)
    return store, connection


def _is_wrong_setting(error: Exception) -> bool:
    """Return whether trying again cannot help. All other errors are taken for an outage of NATS."""
    match error:
        case errors.LinkError() | errors.PermissionsError():
            return True
        case errors.ConnectError():
            return error.is_credentials or (error.is_tls and not error.is_dropped)
        case errors.ApiError():
            return error.err_code in _WRONG_SETTING
    return False
