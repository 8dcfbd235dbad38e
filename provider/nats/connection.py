"""One NATS connection done right: reconnects for ever, fails fast while it is down, never sends late.

It maps nats-py's exceptions to ours. It refuses to know JetStream.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import pathlib
import ssl
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from nats import errors as nats_errors
from nats.aio.client import RawCredentials

from provider import errors
from provider.nats.frames import publish_frame
from provider.nats.requests import Reply, RequestMux
from provider.nats.settings import ConnectionSettings
from provider.nats.wire import Handler, WireClient
from provider.tasks import cancel

_log = logging.getLogger(__name__)

_RECONNECT_WAIT_SECONDS = 0.2
_PING_INTERVAL_SECONDS = 2
_MAX_PINGS_OUT = 2
_SUPERVISE_SECONDS = 1.0
_DROPPED = ("broken pipe", "connection reset", "unexpected eof", "empty response")
_DROPS_BEFORE_GIVING_UP = 4
_CONNECT_FAILURES: tuple[type[Exception], ...] = (nats_errors.Error, OSError, ValueError, AssertionError)
_CREDENTIALS_REFUSED = ("authorization violation", "authentication", "user or password", "nkey", "expired", "revoked")


class Connection:
    """A connection, its subscriptions and its requests, as an async context manager.

    Entering connects, or raises `errors.ConnectError` once `timeout_seconds` have passed or the credentials were
    refused. From then on the connection comes back by itself, subscriptions included. It does not hear what it publishes
    itself.

    Args:
        settings: Servers and credentials.
        name: Shown in the server's monitoring.
        timeout_seconds: How long entering may take.
        is_patient: Go on trying for that long; otherwise give up when every server has failed once.
    """

    def __init__(
        self, settings: ConnectionSettings, name: str, timeout_seconds: float, *, is_patient: bool = False
    ) -> None:
        self.settings = settings
        self._is_patient = is_patient
        self._failures = 0
        self._drops = 0
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._listeners: dict[int, tuple[str, Handler, str, int]] = {}
        self._next_listener = 0
        self._last_error = ""
        self._given_up = asyncio.Event()
        self._is_refused = False
        self._is_closing = False
        self._supervisor: asyncio.Task[None] | None = None
        self._reconnect_callbacks: list[Callable[[], None]] = []
        self._single_callbacks: list[Callable[[], None]] = []
        self._write_callbacks: list[Callable[[], None]] = []
        self._mux = RequestMux(self._write)
        self._client = self._new_client()

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
        """The greatest size of headers and payload together that the server takes."""
        return self._client.max_payload_bytes

    @property
    def reason_down(self) -> str:
        """Why the connection is down, without addresses; "" when nothing is known."""
        return self._last_error

    @property
    def writes(self) -> int:
        """How many writes have gone out; requests made while it stands still are sent together."""
        return self._client.writes

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have a function called after every reconnect; returns what ends that."""
        self._reconnect_callbacks.append(callback)
        return functools.partial(self._reconnect_callbacks.remove, callback)

    def on_write(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have a function called before every write, with which goes what it publishes; returns what ends that."""
        self._write_callbacks.append(callback)
        return functools.partial(self._write_callbacks.remove, callback)

    def on_single_message(self, callback: Callable[[], None]) -> None:
        """Have a function called after every message that came alone, at once after its handler."""
        self._single_callbacks.append(callback)

    # --- messages

    def publish(self, subject: bytes, payload: bytes, header: bytes = b"") -> None:
        """Send a message.

        Raises:
            errors.NotConnectedError, errors.MessageTooLargeError: Nothing was sent.
        """
        self._client.write(publish_frame(subject, b"", header, payload))

    def answer(self, subject: bytes, payload: bytes) -> None:
        """Reply to a stranger's message; without a subject there is nobody to reply to.

        A system's subject, as `$JS.API.STREAM.PURGE.KV_b`, is none either: it would be a request made with the rights
        of this connection.

        Raises:
            errors.NotConnectedError, errors.MessageTooLargeError: Nothing was sent.
        """
        if subject and not subject.startswith(b"$"):
            self._client.write(publish_frame(subject, b"", b"", payload))

    def publish_request(self, subject: bytes, reply: bytes, payload: bytes) -> None:
        """Send a message whose replies go to a subject that the caller listens on."""
        self._client.write(publish_frame(subject, reply, b"", payload))

    def request(
        self, subject: bytes, payload: bytes = b"", header: bytes = b"", *, deadline: float
    ) -> asyncio.Future[Reply]:
        """Send a request and return the future of its reply.

        Args:
            subject: Where to.
            payload: The body.
            header: A header block from `frames.header_block`.
            deadline: When to give up, on the event loop's clock.

        Raises (from the future, the first also at once):
            errors.NotConnectedError, errors.MessageTooLargeError: Nothing was sent.
            errors.NoRespondersError: Nobody serves the subject.
            errors.ConnectionLostError, errors.RequestTimeoutError: Whether it was carried out is unknown.
        """
        return self._mux.request(subject, payload, header, deadline)

    def request_many(
        self, subject: bytes, payload: bytes, *, deadline: float, is_last: Callable[[Reply], bool]
    ) -> asyncio.Future[list[Reply]]:
        """Send a request that gets several replies; `is_last` tells the one that ends them."""
        return self._mux.request_many(subject, payload, deadline, is_last)

    def request_then(self, subject: bytes, deadline: float, then: Callable[[Reply | None], None]) -> None:
        """Send a request without a body and call a function with its reply, in the turn in which it arrives.

        That is what costs least. The function is called exactly once, with `None` when there is no reply for whatever
        reason; it must not block.

        Raises:
            errors.NotConnectedError: Nothing was sent; the function is not called.
        """
        self._mux.request_then(subject, deadline, then)

    async def listen(self, subject: str, handler: Handler, queue: str = "") -> int:
        """Subscribe for as long as the connection lives; returns an id for `unlisten`."""
        listener, self._next_listener = self._next_listener, self._next_listener + 1
        sid = await self._client.listen(subject, handler, queue)
        self._listeners[listener] = (subject, handler, queue, sid)
        return listener

    async def unlisten(self, listener: int, timeout_seconds: float) -> None:
        """End a subscription once everything that the server has sent of it is delivered; gives up on that in time."""
        client, (*_, sid) = self._client, self._listeners[listener]
        await self.stop_listening(listener, timeout_seconds)
        client.forget(sid)

    async def stop_listening(self, listener: int, timeout_seconds: float) -> None:
        """Let the server send no more of a subscription, and wait until what it has sent is here, or for a while.

        What comes later all the same is still delivered.
        """
        *_, sid = self._listeners.pop(listener)
        self._client.end_listening(sid)
        await self.flush(timeout_seconds)

    async def flush(self, timeout_seconds: float) -> None:
        """Wait until the server has handled everything sent so far; gives up quietly after the time-out."""
        with contextlib.suppress(nats_errors.Error, TimeoutError, ConnectionError, AttributeError):
            await asyncio.sleep(0)
            await asyncio.wait_for(self._client.flush(), timeout_seconds)

    def _write(self, frame: bytes) -> None:
        self._client.write(frame)

    # --- life

    def _new_client(self) -> WireClient:
        return WireClient(self._on_lost, self._on_refused, self._on_single, self._on_write)

    async def _connect(self) -> None:
        self._given_up.clear()
        self._is_refused, self._failures, self._drops = False, 0, 0
        options = connect_options(self.settings)
        connecting = asyncio.ensure_future(
            self._client.connect(
                name=self._name,
                error_cb=self._on_error,
                reconnected_cb=self._on_reconnected,
                max_reconnect_attempts=-1,
                reconnect_time_wait=_RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type]  # a sleep, whatever it says
                ping_interval=_PING_INTERVAL_SECONDS,
                max_outstanding_pings=_MAX_PINGS_OUT,
                connect_timeout=max(1, min(5, int(self._timeout_seconds))),
                pending_size=-1,
                dont_randomize=True,
                no_echo=True,
                **options,
            )
        )
        given_up = asyncio.ensure_future(self._given_up.wait())
        try:
            ends = {connecting, given_up}
            await asyncio.wait(ends, timeout=self._timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise self._connect_error()
            connecting.result()
        except _CONNECT_FAILURES + _key_errors() as error:
            self._is_refused = self._is_refused or isinstance(error, _key_errors())
            self._last_error = self._last_error or _describe(error)
            raise self._connect_error() from None
        finally:
            if not self._client.is_connected:
                await self._close_client()
            await cancel(given_up, connecting)
        await self._client.listen(f"{self._mux.inbox}.*", self._mux.on_reply)
        for listener, (subject, handler, queue, _) in list(self._listeners.items()):
            sid = await self._client.listen(subject, handler, queue)
            self._listeners[listener] = (subject, handler, queue, sid)
        await self.flush(self._timeout_seconds)

    def _connect_error(self) -> errors.ConnectError:
        reason = self._last_error or "no server answers"
        lowered = reason.lower()
        is_tls = "tls" in lowered or "ssl" in lowered or "certificate" in lowered
        return errors.ConnectError(reason, self._is_refused and not is_tls, is_tls, _is_dropped(reason))

    async def _close_client(self) -> None:
        with contextlib.suppress(nats_errors.Error, OSError, AttributeError, AssertionError):
            await asyncio.wait_for(self._client._close(WireClient.CLOSED, do_cbs=False), 1.0)

    async def _supervise(self) -> None:
        """Make a new client when nats-py's own reconnecting has come to an end, which it should not."""
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
            with contextlib.suppress(errors.ConnectError):
                await self._connect()
                await self._on_reconnected()

    def _on_single(self) -> None:
        for callback in self._single_callbacks:
            callback()

    def _on_write(self) -> None:
        for callback in self._write_callbacks:
            callback()

    def _on_lost(self) -> None:
        failed = self._mux.fail_all()
        _log.warning("nats_disconnected", extra={"connection": self._name, "requests_failed": failed})

    def _on_refused(self, reason: str) -> None:
        self._last_error = reason
        _log.warning("nats_permission_refused", extra={"connection": self._name, "reason": reason})
        self._mux.refuse(reason)

    async def _on_reconnected(self) -> None:
        self._last_error = ""
        _log.info("nats_reconnected", extra={"connection": self._name})
        for callback in self._reconnect_callbacks:
            callback()

    async def _on_error(self, error: Exception) -> None:
        reason = _describe(error)
        if _is_dropped(reason):
            # The server has hung up before its reason could be read, which is a race: it is likely to be heard next time.
            self._drops += 1
            self._last_error = self._last_error or reason
            if self._drops < _DROPS_BEFORE_GIVING_UP:
                return
        else:
            self._last_error = reason
        self._failures += 1
        if any(word in self._last_error.lower() for word in _CREDENTIALS_REFUSED):
            self._is_refused = True
        if not self._is_patient and self._failures >= len(self.settings.servers):
            self._given_up.set()


def connect_options(settings: ConnectionSettings) -> dict[str, Any]:
    """Turn settings into nats-py's options.

    Raises:
        errors.ConnectError: A file cannot be read or a certificate cannot be loaded; names the setting.
    """
    options: dict[str, Any] = {"servers": list(settings.servers)}
    if settings.creds_file:
        options["user_credentials"] = RawCredentials(_read_creds(settings.creds_file))
    elif settings.client_jwt:
        options["user_credentials"] = RawCredentials(_creds(settings))
    elif settings.client_seed:
        options["nkeys_seed_str"] = settings.client_seed.reveal()
    if settings.token:
        options["token"] = settings.token.reveal()
    if settings.user:
        options["user"], options["password"] = settings.user, settings.password.reveal()
    context = _tls_context(settings)
    if context is not None:
        options["tls"] = context
    return options


def _creds(settings: ConnectionSettings) -> str:
    return (
        f"-----BEGIN NATS USER JWT-----\n{settings.client_jwt.reveal()}\n------END NATS USER JWT------\n"
        f"-----BEGIN USER NKEY SEED-----\n{settings.client_seed.reveal()}\n------END USER NKEY SEED------\n"
    )


def _tls_context(settings: ConnectionSettings) -> ssl.SSLContext | None:
    if not settings.uses_tls:
        return None
    context = ssl.create_default_context()
    try:
        if settings.tls_ca_file:
            context.load_verify_locations(cafile=settings.tls_ca_file)
        if settings.tls_ca:
            context.load_verify_locations(cadata=settings.tls_ca.replace("\\n", "\n"))
    except (OSError, ssl.SSLError, ValueError) as error:
        raise errors.ConnectError(
            f"TLS certificate authority cannot be loaded: {_describe(error)}", False, True
        ) from None
    if settings.tls_cert_file:
        try:
            context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file or None)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise errors.ConnectError(
                f"TLS client certificate cannot be loaded: {_describe(error)}", False, True
            ) from None
    return context


def _read_creds(path: str) -> str:
    """Read a credentials file. One without its two blocks would send nats-py's reader into an endless loop."""
    try:
        text = pathlib.Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        raise errors.ConnectError(f"file cannot be read: {_describe(error)}", True, False) from None
    if "-BEGIN NATS USER JWT-" not in text or "-BEGIN USER NKEY SEED-" not in text:
        raise errors.ConnectError("file is not a NATS credentials file", True, False)
    return text


def _key_errors() -> tuple[type[Exception], ...]:
    """Return what nats-py lets through when a seed is none; it loads that library only where there is a seed to use."""
    nkeys = sys.modules.get("nkeys")
    return () if nkeys is None else (nkeys.NkeysError,)


def _is_dropped(reason: str) -> bool:
    return any(words in reason.lower() for words in _DROPPED)


def _describe(error: BaseException) -> str:
    """Say what went wrong without naming a server's address."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS certificate verification failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'handshake refused'}"
    if isinstance(error, OSError) and error.strerror and error.errno:
        return os.strerror(error.errno).lower() if error.errno > 0 else "server name cannot be resolved"
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "no answer in time"
    text = str(error).removeprefix("nats: ").strip("'\" ")
    return text or type(error).__name__
