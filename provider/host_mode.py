"""The start by a lattice host: read the host data, build the objects, run them, return the exit code."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

import uvloop

from contracts.codec import MalformedError
from contracts.host import HostData, HostFamily, decode_host_data
from provider import errors, logs
from provider.config import ProcessLimits, ProviderConfig, load_config, wanted_log_level
from provider.keyvalue.bucket.pages.page_cache import PageCache
from provider.keyvalue.bucket.store import Upkeep
from provider.keyvalue.cache.trust.cluster_keys import ClusterKeys
from provider.keyvalue.pool import StorePool
from provider.lattice.actor_calls import ActorCaller
from provider.lattice.wasmcloud1.component_calls import ComponentCaller
from provider.lattice.wasmcloud1.reply_subjects import inbox_check
from provider.links import Links
from provider.nats.connection import Connection
from provider.serve import Provider
from provider.serving.components import ComponentProvider
from provider.tasks import TaskOwner
from provider.telemetry.export import Telemetry
from provider.watches import ActorDelivery, ComponentDelivery, Delivery, Watches

_log = logging.getLogger(__name__)

_MAX_HOST_DATA_BYTES = 64 * 1024 * 1024
"""Room for hundreds of thousands of links, and a bound for input without a line end."""

_PARENT_CHECK_SECONDS = 0.5
"""A provider whose host died may answer for this long. Checking costs one system call."""

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GC_THRESHOLD = 20_000
"""Invocations create no reference cycles, so a collection after every 700 objects, Python's default, finds nothing."""


def run() -> int:
    """Serve the host that wrote a line to standard input, and return the exit code."""
    try:
        line = sys.stdin.buffer.readline(_MAX_HOST_DATA_BYTES) if sys.stdin is not None else b""
        host_data = decode_host_data(line)
        logs.configure(wanted_log_level(host_data, os.environ), is_json=host_data.structured_logging)
        config = load_config(host_data, os.environ)
        for remark in config.remarks:
            _log.warning("config_warning", extra={"setting": remark.setting, "reason": remark.reason})
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(host_data, config, os.environ))
    except (errors.StartupError, MalformedError) as error:
        sys.stderr.write(f"keyvalue-nats: {error}\n")
        return 1
    return 0


async def _serve(host_data: HostData, config: ProviderConfig, environment: Mapping[str, str]) -> None:
    name = f"keyvalue-nats {host_data.provider_key} {host_data.link_name}"
    tasks, watchers = TaskOwner(), TaskOwner()
    connection = Connection(config.lattice_connection, name, config.limits.connect_timeout_seconds, is_patient=True)
    async with AsyncExitStack() as stack:
        telemetry = Telemetry(host_data, config.identity, config.telemetry, environment)
        stack.callback(telemetry.close)
        loop = asyncio.get_running_loop()
        connecting = asyncio.ensure_future(stack.enter_async_context(connection))
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, connecting.cancel)
        try:
            await connecting
        except errors.ConnectError as error:
            raise errors.StartupError(f"cannot connect to the lattice: {error.reason}") from None
        except asyncio.CancelledError:
            return
        stack.push_async_callback(watchers.close)
        is_wasmcloud1 = host_data.family is HostFamily.WASMCLOUD1
        keys, upkeep = _keys(host_data), _upkeep(config.limits)
        pool = await stack.enter_async_context(
            StorePool(tasks, connection, f"{name} store", keys, is_keyless=is_wasmcloud1, upkeep=upkeep)
        )
        watches = Watches(host_data, pool, _delivery(config, host_data, connection, tasks), tasks)
        links = Links(config, host_data, pool, watches)
        family = ComponentProvider if is_wasmcloud1 else Provider
        provider = family(config, host_data, connection, links, tasks, telemetry)
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, provider.stop, signal.Signals(number).name)
        watchers.start(_watch_host(host_data.family, provider.stop), "watch host")
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD, 50, 50)
        gc.enable()
        await provider.run()


def _delivery(config: ProviderConfig, host_data: HostData, connection: Connection, tasks: TaskOwner) -> Delivery:
    """Return the way in which the family's actors or components are called with changes."""
    if host_data.family is not HostFamily.WASMCLOUD1:
        return ActorDelivery(ActorCaller(connection, host_data), tasks)
    return ComponentDelivery(
        ComponentCaller(
            connection,
            host_data.lattice_rpc_prefix,
            host_data.provider_key,
            host_data.default_rpc_timeout_ms / 1000,
            inbox_check(config.inbox_prefixes),
        )
    )


def _upkeep(limits: ProcessLimits) -> Upkeep:
    return Upkeep(
        max_answer_bytes=limits.max_answer_bytes,
        page_grace_seconds=limits.page_grace_seconds,
        page_cache=PageCache(),
    )


def _keys(host_data: HostData) -> ClusterKeys | None:
    """Return the keys by which this provider and others of the lattice know each other; None without a seed."""
    try:
        return ClusterKeys(host_data.lattice_rpc_prefix, host_data.invocation_seed, host_data.cluster_issuers)
    except ValueError:
        return None


async def _watch_host(family: HostFamily, stop: Callable[[str], None]) -> None:
    """Stop when the host is gone: at the end of standard input under OTP, and under any host at a change of parent."""
    loop = asyncio.get_running_loop()
    if family is HostFamily.OTP and _is_pipe(sys.stdin.fileno()):

        def on_readable() -> None:
            if not os.read(sys.stdin.fileno(), 65536):
                loop.remove_reader(sys.stdin.fileno())
                stop("the host closed standard input")

        loop.add_reader(sys.stdin.fileno(), on_readable)
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110  (the kernel sends no event for it)
        await asyncio.sleep(_PARENT_CHECK_SECONDS)
    stop("the host is gone")


def _is_pipe(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
