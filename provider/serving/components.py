"""The provider under a host of wasmCloud 1.x: calls of components over wRPC, each with the bytes that its function answers."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from typing import Any

from msgspec import structs

from contracts import wrpc
from contracts.component_values import Limits
from contracts.host import HostData
from contracts.keyvalue import Request
from contracts.secret import Secret
from contracts.wrpc import function_name
from provider import errors
from provider.config import ProcessLimits, ProviderConfig, load_config
from provider.instance import Instance
from provider.keyvalue.byte_values import checking_request, is_long
from provider.keyvalue.store import Store, complete
from provider.lattice.protocol import LinkEvent, LinkKey
from provider.lattice.wasmcloud1.exchanges import CallReceived, CallRefused, Exchange, ExchangeLimits
from provider.lattice.wasmcloud1.link_records import Wasmcloud1LinkRecords
from provider.lattice.wasmcloud1.protocol import Wasmcloud1Protocol
from provider.lattice.wasmcloud1.reply_subjects import inbox_check
from provider.lattice.wasmcloud1.subscriptions import Wasmcloud1Subscriptions
from provider.links import Links
from provider.nats.connection import Connection
from provider.serving.calls import ServedCall
from provider.serving.running import RunningProvider
from provider.tasks import TaskOwner, in_turns
from provider.telemetry.export import Telemetry
from provider.wrpc_calls import failure_of, request_of, result_of

_log = logging.getLogger(__name__)

_UNPROVEN_SHARE = 4
"""Answers that wait for their callers may take a quarter of the bytes that calls in flight may: they are copies already."""

_CONFIRM_SECONDS = 0.05
"""The time at shutdown for callers to confirm their answers: many round trips, and a sixth of the host's patience."""


class ComponentCall(ServedCall, eq=False, kw_only=True):
    """A call of a component being served.

    Attributes:
        call: The call.
        exchange: The conversation about it.
        lattice: The way back to the caller.
        tasks: Owner of the wait until a large answer is sent.
    """

    call: wrpc.WrpcCall
    exchange: Exchange
    lattice: Wasmcloud1Subscriptions
    tasks: TaskOwner

    def answer(self, result: Any) -> None:
        if self.is_done:
            return
        type_ = type(self.call)
        try:
            response = wrpc.encode_result_in_parts(type_, result_of(self.call, result))
        except errors.ProviderError as error:
            self.fail(error)
            return
        self.lattice.answer(self.exchange, response)
        room_bytes, self.answer_bytes = self.answer_bytes, 0
        self.calls.end(self, len(response), None)
        if room_bytes:
            self.tasks.start(self._keep_room(room_bytes), "keep the room of a large answer")

    async def _keep_room(self, size_bytes: int) -> None:
        try:
            await self.lattice.until_sent(self.exchange)
        finally:
            self.calls.give_back_answer_room(size_bytes)

    def send_failure(self, error: BaseException) -> None:
        self.lattice.answer(self.exchange, wrpc.encode_result(type(self.call), failure_of(error)))


class ComponentProvider(RunningProvider):
    """The running provider under a host of 1.x: it serves calls of components, without signatures."""

    operations = tuple(function_name(type_) for type_ in wrpc.CALLS)

    def __init__(
        self,
        config: ProviderConfig,
        host_data: HostData,
        connection: Connection,
        links: Links,
        tasks: TaskOwner,
        telemetry: Telemetry,
    ) -> None:
        super().__init__(config, host_data, connection, links, tasks, telemetry)
        is_inbox = inbox_check(config.inbox_prefixes)
        connection.answer_only(is_inbox)
        self._protocol = Wasmcloud1Protocol(host_data, time.time)
        self._lattice = Wasmcloud1Subscriptions(
            connection, self._protocol, self, _exchange_limits(config.limits, self._budget_seconds), is_inbox, tasks
        )
        self._records = Wasmcloud1LinkRecords(connection, self._protocol, self.on_link)
        self._config_fault: str | None = None
        self._ending: asyncio.Future[None]

    async def _start(self) -> None:
        assert self._host_data.wasmcloud1 is not None, "the protocol has checked it"
        await self._lattice.start(self._host_data.wasmcloud1)
        await self._records.read_first()
        await self._lattice.serve_calls()
        self._tasks.start(self._records.follow(), "follow link records")

    def _instance(self) -> tuple[Instance, str, str]:
        subjects = self._protocol.subjects
        subject = f"{subjects.lattice}.{subjects.provider_id}.{wrpc.PROTOCOL}.>"
        instance = Instance(self._host_data, self._calls, self._links, None, None, self.health)
        return instance, subject, subjects.queue

    async def _stop_calls(self) -> None:
        await self._lattice.stop_calls()

    async def _drain(self, patience_seconds: float) -> None:
        await super()._drain(patience_seconds)
        self._ending = asyncio.ensure_future(self._lattice.end_calls(_CONFIRM_SECONDS))  # while the stores close

    async def _acknowledge_shutdown(self, reply: bytes) -> None:
        await self._ending
        await self._lattice.acknowledge_shutdown(reply)

    def notice(self) -> str | None:
        notices = (self._config_fault, super().notice(), self._records.notice)
        return "; ".join(text for text in notices if text) or None

    # --- events of the lattice

    def on_link(self, event: LinkEvent) -> None:
        super().on_link(event)
        if self._protocol.unchecked:
            self._records.wake()

    def on_call(self, event: CallReceived) -> None:
        try:
            link = self._link_of(event)
        except errors.InvocationDeniedError as error:
            self.on_refused_call(CallRefused(event.exchange, function_name(type(event.call)), errors.bare(error)))
            return
        now = time.monotonic()  # the event loop's time stands still for whole milliseconds, longer than many calls take
        call = ComponentCall(
            calls=self._calls,
            link=link,
            operation=function_name(type(event.call)),
            header=event.exchange.header,
            size_bytes=event.size_bytes,
            began=now,
            deadline=now + self._budget_seconds,
            call=event.call,
            exchange=event.exchange,
            lattice=self._lattice,
            tasks=self._tasks,
        )
        try:
            self._submit(call)
        except Exception as defect:  # noqa: BLE001  (a defect in one call must not leave its caller without an answer)
            call.fail(defect)

    def _link_of(self, event: CallReceived) -> LinkKey:
        """Return the link of a call: that of the chosen link name, unless the store was opened by the name of another link.

        So components that were written for provider-keyvalue-nats find their store, and on hosts of 1.0, whose calls have
        no link name, a component may have several links.

        Raises:
            errors.InvocationDeniedError: The component has no link of the chosen name.
        """
        exchange, name = event.exchange, event.call.bucket
        chosen = self._protocol.link_of_call(exchange.source_id, exchange.link_name)
        if self._links.opens_by(chosen, name):
            return chosen
        return self._protocol.link_named(exchange.source_id, name) or chosen

    def _submit(self, call: ComponentCall) -> None:
        store = self._calls.refusal(call) or self._links.store(call.link)
        if isinstance(store, errors.ProviderError):
            call.fail(store)
            return
        try:
            call.request = request_of(call.call, self._links.config(call.link), call.link[2])
        except errors.ProviderError as error:
            call.fail(error)
            return
        if is_long(call.request):
            self._calls.keep(call, store)
            work = complete(
                call, in_turns(checking_request(call.request)), functools.partial(self._submit_checked, call, store)
            )
            self._tasks.start(work, "check a long value")
            return
        store.submit(call.request, call)
        if not call.is_done:
            self._calls.keep(call, store)

    def _submit_checked(self, call: ComponentCall, store: Store, request: Request) -> None:
        call.request = request
        store.submit(request, call)

    def on_refused_call(self, event: CallRefused) -> None:
        self._counts.refuse(type(event.error).__name__)
        name = "call_denied" if isinstance(event.error, errors.InvocationDeniedError) else "call_refused"
        _log.warning(name, extra={"operation": event.operation, "reason": str(event.error)})
        if event.exchange is not None:
            failure = wrpc.encode_result(event.exchange.type_, failure_of(event.error))
            self._lattice.answer(event.exchange, failure)

    def on_config(self, settings: Secret) -> None:
        """Apply other settings of the provider to its links. A fault in them leaves the present ones in force."""
        host_data = structs.replace(self._host_data, config_json=settings)
        try:
            config = load_config(host_data, os.environ)
        except errors.ConfigError as error:
            self._config_fault = f"an update of the provider's config is not in force: {error}"
            _log.warning("config_refused", extra={"reason": str(error)})
            return
        self._config_fault = None
        self._calls.limits = config.limits
        self._lattice.limit(_exchange_limits(config.limits, self._budget_seconds))
        changed = self._links.configure(config)
        _log.info("config_updated", extra={"links_changed": changed})


def _exchange_limits(limits: ProcessLimits, hold_seconds: float) -> ExchangeLimits:
    return ExchangeLimits(
        parameters=Limits(limits.max_invocation_bytes, limits.max_keys_per_call),
        max_collecting=limits.max_in_flight,
        max_collected_bytes=limits.max_in_flight_bytes,
        max_unproven=limits.max_in_flight,
        max_unproven_bytes=limits.max_in_flight_bytes // _UNPROVEN_SHARE,
        hold_seconds=hold_seconds,
    )
