"""A NATS connection that reconnects for ever, fails at once while it is down, and never sends late.

It converts nats-py's exceptions to ours. It does not know JetStream.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from nats import errors as nats_errors

from provider import errors
from provider.nats.connect_options import (
    CONNECT_FAILURES,
    Loaded,
    describe,
    fixed_options,
    is_dropped,
    is_refusal,
    load,
    seed_errors,
)
from provider.nats.frames import publish_frame, refused_subject
from provider.nats.requests import Reply, RequestMux
from provider.nats.settings import ConnectionSettings
from provider.nats.wire import Handler, WireClient
from provider.tasks import cancel

_log = logging.getLogger(__name__)

_RECONNECT_WAIT_SECONDS = 0.2
"""Pause between attempts to reconnect: within a call's deadline of 2 s, and no burden for a server that starts."""

_PING_INTERVAL_SECONDS = 2
_MAX_PINGS_OUT = 2
"""A server that does not answer two pings counts as lost: a frozen one is noticed after 4 to 6 seconds."""

_CONNECT_ATTEMPT_SECONDS = 5
"""Greatest time of one attempt, so that a frozen server does not keep the next one from being tried."""

_SUPERVISE_SECONDS = 1.0
"""Interval of the check that nats-py is still reconnecting. It should never find anything."""

_DROPS_BEFORE_GIVING_UP = 4
"""The fourth connection that is closed without a reason counts as a failure; see `Connection._on_error`."""

_CLOSE_SECONDS = 1.0
"""Time limit for closing: longer than a healthy server needs, and within a host's budget for a shutdown."""


class Connection:
    """A connection with its subscriptions and requests, as an async context manager.

    Entering connects, or raises `errors.ConnectError` after `timeout_seconds` or when the server refuses the
    credentials. Afterwards the connection restores itself, with all subscriptions. It does not receive messages that it
    has sent itself.

    Args:
        settings: Servers and credentials.
        name: Name of the connection in the server's monitoring.
        timeout_seconds: Time limit for entering.
        is_patient: Whether entering goes on trying until then. Otherwise it fails once every server has failed.

    Attributes:
        settings: Servers and credentials.
        request_then: Sends a request without a future or a task; see `RequestMux.request_then`.
        reconnects: Number of times that the connection was restored.
        failed_requests: Number of requests that had no answer when the connection was lost.
    """

    def __init__(
        self, settings: ConnectionSettings, name: str, timeout_seconds: float, *, is_patient: bool = False
    ) -> None:
        self.settings = settings
        self.reconnects = 0
        self.failed_requests = 0
        self._is_patient = is_patient
        self._failures = 0
        self._drops = 0
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._listeners: dict[int, tuple[str, Handler, str, int]] = {}
        """Subject, handler, queue group and the client's subscription id of each listener, by our own id."""
        self._next_listener = 0
        self._last_error = ""
        self._given_up = asyncio.Event()
        self._is_refused = False
        self._loaded: Loaded | None = None
        self._file_error: errors.ConnectError | None = None
        self._is_closing = False
        self._is_answerable: Callable[[bytes], bool] = bool
        self._supervisor: asyncio.Task[None] | None = None
        self._reconnect_callbacks: list[Callable[[], None]] = []
        self._delivered_callbacks: list[Callable[[], None]] = []
        self._refusal_callbacks: dict[bytes, Callable[[str], None]] = {}
        self._client = self._new_client()
        self._mux = RequestMux(self._client.write)
        self.request_then = self._mux.request_then

    async def __aenter__(self) -> Self:
        await self._connect()
        self._supervisor = asyncio.create_task(self._supervise(), name=f"supervise {self._name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closing = True
        if self._supervisor is not None:
            await cancel(self._supervisor)
        self._mux.close()
        await self._close_client()

    # --- state

    @property
    def is_connected(self) -> bool:
        return bool(self._client.is_connected)

    @property
    def max_payload_bytes(self) -> int:
        """The server's limit for the headers and payload of one message together."""
        return self._client.max_payload_bytes

    @property
    def writes(self) -> int:
        """Number of writes so far. Messages sent while it does not change go out together."""
        return self._client.writes

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call a function after every reconnect; return a function that ends this."""
        self._reconnect_callbacks.append(callback)
        return functools.partial(self._reconnect_callbacks.remove, callback)

    def on_refusal(self, subject: bytes, callback: Callable[[str], None]) -> Callable[[], object]:
        """Call a function with the server's reason when it refuses a message to a subject; return a function that ends this.

        Args:
            subject: A subject that only the caller sends to; b"": all that the server refuses besides publications to a
                subject, as subscriptions.
            callback: The function.
        """
        self._refusal_callbacks[subject] = callback
        return lambda: self._refusal_callbacks.pop(subject, None)

    def on_delivered(self, callback: Callable[[], None]) -> None:
        """Call a function right after the handlers of the messages that arrived together."""
        self._delivered_callbacks.append(callback)

    # --- messages

    def write_out(self) -> None:
        """Send the messages of this turn now, before work that takes longer than a write."""
        self._client.write_out()

    def publish(self, subject: bytes, payload: bytes, header: bytes = b"") -> None:
        """Send a message.

        Raises:
            errors.NotConnectedError, errors.MessageTooLargeError: Nothing was sent.
        """
        self._client.write(publish_frame(subject, b"", header, payload))

    def answer(self, subject: bytes, payload: bytes) -> None:
        """Reply to a message of an unknown sender; do nothing if the message asked for no reply.

        A reply subject that begins with `$`, as `$JS.API.STREAM.PURGE.KV_b`, is ignored: the reply would be a request
        to the server with this connection's permissions. See also `answer_only`.

        Raises:
            errors.NotConnectedError, errors.MessageTooLargeError: Nothing was sent.
        """
        if subject and not subject.startswith(b"$") and self._is_answerable(subject):
            self._client.write(publish_frame(subject, b"", b"", payload))

    def answer_only(self, is_answerable: Callable[[bytes], bool]) -> None:
        """Ignore from now on also the reply subjects that do not pass a check; see `answer`."""
        self._is_answerable = is_answerable

    def publish_request(self, subject: bytes, reply: bytes, payload: bytes, header: bytes = b"") -> None:
        """Send a message whose replies go to a subject that the caller listens on. See `on_refusal`.

        Raises:
            errors.NotConnectedError, errors.MessageTooLargeError: Nothing was sent.
        """
        self._client.write(publish_frame(subject, reply, header, payload))

    def request(
        self, subject: bytes, payload: bytes = b"", header: bytes = b"", *, deadline: float
    ) -> asyncio.Future[Reply]:
        """Send a request and return the future of its reply.

        Args:
            subject: Subject of the request.
            payload: Body of the request.
            header: A header block from `frames.header_block`.
            deadline: When to give up, on the event loop's clock.

        Raises (from the future, the first also at once):
            errors.NotConnectedError, errors.MessageTooLargeError: Nothing was sent.
            errors.NoRespondersError: There is no subscription to the subject.
            errors.PermissionsError: The server has refused the request.
            errors.ConnectionLostError, errors.RequestTimeoutError: The request may or may not have been carried out.
        """
        return self._mux.request(subject, payload, header, deadline)

    def request_many(
        self, subject: bytes, payload: bytes, *, deadline: float, is_last: Callable[[Reply], bool]
    ) -> asyncio.Future[list[Reply]]:
        """Send a request for several replies and return their future.

        Args:
            subject: Subject of the request.
            payload: Body of the request.
            deadline: When to give up, on the event loop's clock.
            is_last: Function that recognizes the message behind the last reply.

        Raises: See `request`.
        """
        return self._mux.request_many(subject, payload, deadline, is_last)

    async def listen(self, subject: str, handler: Handler, queue: str = "") -> int:
        """Subscribe for as long as the connection lives; return an id for `unlisten`."""
        listener, self._next_listener = self._next_listener, self._next_listener + 1
        sid = await self._client.listen(subject, handler, queue)
        self._listeners[listener] = (subject, handler, queue, sid)
        return listener

    async def unlisten(self, listener: int, timeout_seconds: float) -> None:
        """End a subscription once all messages that the server has sent for it are delivered, or after the time-out."""
        client, (*_, sid) = self._client, self._listeners[listener]
        await self.stop_listening(listener, timeout_seconds)
        client.forget(sid)

    async def stop_listening(self, listener: int, timeout_seconds: float) -> None:
        """Unsubscribe, and wait for the messages that the server has sent already, until the time-out at most.

        Messages that arrive even later are still delivered.
        """
        *_, sid = self._listeners.pop(listener)
        self._client.end_listening(sid)
        await self.flush(timeout_seconds)

    async def flush(self, timeout_seconds: float) -> None:
        """Wait until the server has handled everything sent so far; return silently after the time-out."""
        with contextlib.suppress(nats_errors.Error, TimeoutError, ConnectionError, AttributeError):
            await asyncio.sleep(0)  # lets this turn's write go out, ahead of the ping
            await asyncio.wait_for(self._client.flush(), timeout_seconds)

    # --- life

    def _new_client(self) -> WireClient:
        return WireClient(self._renew, self._on_lost, self._on_refused, self._on_delivered)

    async def _renew(self) -> Loaded:
        """Read the files of credentials and certificates again; see `WireClient`."""
        self._loaded = await load(self.settings, self._loaded)
        return self._loaded

    async def _connect(self) -> None:
        self._given_up.clear()
        self._file_error = None
        self._is_refused, self._failures, self._drops = False, 0, 0
        connecting = asyncio.ensure_future(
            self._client.connect(
                name=self._name,
                error_cb=self._on_error,
                reconnected_cb=self._on_reconnected,
                max_reconnect_attempts=-1,
                reconnect_time_wait=_RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type]  # it sleeps, despite its type
                ping_interval=_PING_INTERVAL_SECONDS,
                max_outstanding_pings=_MAX_PINGS_OUT,
                connect_timeout=max(1, min(_CONNECT_ATTEMPT_SECONDS, int(self._timeout_seconds))),
                pending_size=-1,
                dont_randomize=True,
                no_echo=True,
                **fixed_options(self.settings),
            )
        )
        given_up = asyncio.ensure_future(self._given_up.wait())
        try:
            ends = {connecting, given_up}
            await asyncio.wait(ends, timeout=self._timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise self._connect_error()
            connecting.result()
        except CONNECT_FAILURES + seed_errors() as error:
            self._is_refused = self._is_refused or isinstance(error, seed_errors())
            self._last_error = self._last_error or describe(error)
            raise self._connect_error() from None
        finally:
            if not self._client.is_connected:
                await self._close_client()
            await cancel(given_up, connecting)
        try:
            await self._subscribe_all()
        except errors.NotConnectedError:
            await self._close_client()
            raise errors.ConnectError("the server ends each connection soon after it was made") from None

    async def _subscribe_all(self) -> None:
        await self._client.listen(f"{self._mux.inbox}.*", self._mux.on_reply)
        for listener, (subject, handler, queue, _) in list(self._listeners.items()):
            sid = await self._client.listen(subject, handler, queue)
            self._listeners[listener] = (subject, handler, queue, sid)
        await self.flush(self._timeout_seconds)

    def _connect_error(self) -> errors.ConnectError:
        if self._file_error is not None:
            return self._file_error
        reason = self._last_error or "no server answers"
        lowered = reason.lower()
        is_tls = "tls" in lowered or "ssl" in lowered or "certificate" in lowered
        return errors.ConnectError(reason, self._is_refused and not is_tls, is_tls, is_dropped(reason))

    async def _close_client(self) -> None:
        with contextlib.suppress(nats_errors.Error, OSError, AttributeError, AssertionError):
            await asyncio.wait_for(self._client._close(WireClient.CLOSED, do_cbs=False), _CLOSE_SECONDS)

    async def _supervise(self) -> None:
        """Replace the client when nats-py has stopped reconnecting, as it should not."""
        while True:
            await asyncio.sleep(_SUPERVISE_SECONDS)
            task = self._client._reconnection_task
            has_ended = self._client.is_closed or (not self._client.is_connected and (task is None or task.done()))
            if not has_ended or self._is_closing:
                continue
            _log.warning("nats_rebuilt", extra={"connection": self._name})
            self._on_lost()
            await self._close_client()
            self._client = self._new_client()
            self._mux.write = self._client.write
            with contextlib.suppress(errors.ConnectError):
                await self._connect()
                await self._on_reconnected()

    def _on_delivered(self) -> None:
        for callback in self._delivered_callbacks:
            callback()

    def _on_lost(self) -> None:
        failed = self._mux.fail_all()
        self.failed_requests += failed
        _log.warning("nats_disconnected", extra={"connection": self._name, "requests_failed": failed})

    def _on_refused(self, reason: str) -> None:
        _log.warning("nats_permission_refused", extra={"connection": self._name, "reason": reason})
        subject = refused_subject(reason)
        self._mux.refuse(subject, reason)
        if subject in self._refusal_callbacks:
            self._refusal_callbacks[subject](reason)

    async def _on_reconnected(self) -> None:
        self._last_error = ""
        self.reconnects += 1
        _log.info("nats_reconnected", extra={"connection": self._name})
        for callback in self._reconnect_callbacks:
            callback()

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, errors.ConnectError):
            self._last_error, self._file_error = error.reason, error
            self._given_up.set()  # no other server helps
            return
        self._file_error = None
        reason = describe(error)
        if is_dropped(reason):
            # A server that refuses a connection sends the reason and closes. Whether the reason is read before the end
            # of the connection is noticed is a race, so a drop is a reason to try again.
            self._drops += 1
            self._last_error = self._last_error or reason
            if self._drops < _DROPS_BEFORE_GIVING_UP:
                return
        else:
            self._last_error = reason
        self._failures += 1
        if is_refusal(self._last_error):
            self._is_refused = True
        if not self._is_patient and self._failures >= len(self.settings.servers):
            self._given_up.set()
