"""nats-py's client with its hot path replaced: the parsing, delivery and writing of frames.

nats-py does the rare and difficult work: connecting, authentication, TLS, the pool of servers, pings, reconnecting. The
work per message is done here, for three reasons. nats-py's own costs more than a signature check: a queue, a task
switch and a regular expression. It buffers writes while disconnected and sends them later. And it closes for good on
any error that it does not know. This module uses private names of nats-py, whose minor version is therefore pinned;
`tests/component/test_nats_py_seams.py` guards them.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

from nats import errors as nats_errors
from nats.aio.client import Client, Srv
from nats.protocol.parser import Parser

from provider import errors
from provider.nats.closable_client import ClosableClient
from provider.nats.connect_options import Loaded
from provider.nats.frames import FrameError, FrameParser, Message, payload_size
from provider.nats.guards import LineBudget, checked_info
from provider.nats.transport import DirectTransport

_log = logging.getLogger(__name__)

Handler = Callable[[bytes, bytes, bytes, bytes], None]
"""A function called with subject, reply subject, header block and payload of a message; it must not block."""

_PONG = b"PONG\r\n"
_REFUSED = b"-ERR 'Permissions Violation"

_MAX_DISCOVERED = 256
"""Servers that are tried besides those of the settings: more than a cluster has. The last ones named are kept."""

_BUFFER_BYTES = 32768
"""Read buffer while a connection is set up, as large as nats-py's own."""

_GREETING_SECONDS = 0.5
"""Time in which a server that does not wait for a handshake greets: ten times that of one with `handshake_first: auto`."""

_MAX_UNSENT_BYTES = 64 * 1024 * 1024
"""Limit of what waits for a server that has stopped reading; then writes fail instead of filling the memory."""


class WireClient(ClosableClient):
    """A client that calls handlers as messages arrive, and writes once for all that arrived together."""

    def __init__(
        self,
        renew: Callable[[], Awaitable[Loaded]],
        on_lost: Callable[[], None],
        on_refused: Callable[[str], None],
        on_delivered: Callable[[], None],
    ) -> None:
        """Create an unconnected client.

        Args:
            renew: Function that reads the files of credentials and certificates, called before each attempt to connect.
            on_lost: Function called when the connection is found to be down, before any attempt to reconnect.
            on_refused: Function called with the server's text when it refuses a subscription or publication.
            on_delivered: Function called after the handlers of the messages that arrived together. Work that they
                share should be done now: a later turn of the event loop would delay it, and cost a turn.
        """
        super().__init__()
        self._ps = self._frames = _FastParser(self)
        self._handlers: dict[int, Handler] = {}
        self._loop = asyncio.get_running_loop()
        self._unwritten: list[bytes] = []
        self._is_delivering = False
        self.writes = 0
        """Number of writes so far. Frames added while it does not change go out together."""
        self._renew = renew
        self._loaded: Loaded | None = None
        self._handshakes: dict[str, bool] = {}
        """True for a server that waits for the TLS handshake, by its address. A server that is missing has to be tried."""
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._on_delivered = on_delivered

    @property
    def max_payload_bytes(self) -> int:
        """The server's limit for the headers and payload of one message together."""
        return int(self._max_payload)

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """The context for TLS, which a server may ask for although the settings do not."""
        loaded = self._loaded
        return super().ssl_context if loaded is None or loaded.tls is None else loaded.tls

    @property
    def server_name(self) -> str:
        return str(self._server_info.get("server_name", ""))

    async def listen(self, subject: str, handler: Handler, queue: str = "") -> int:
        """Subscribe, and renew the subscription after every reconnect; return its id."""
        try:
            subscription = await self.subscribe(subject, queue)
        except nats_errors.Error:
            raise errors.NotConnectedError from None
        sid = int(subscription._id)
        self._handlers[sid] = handler
        return sid

    def end_listening(self, sid: int) -> None:
        """Unsubscribe. Messages on their way are still delivered until `forget` is called."""
        self._remove_sub(sid)
        if self.is_connected:
            self.write(b"UNSUB %d\r\n" % sid)

    def forget(self, sid: int) -> None:
        """Stop delivering the messages of a subscription."""
        self._handlers.pop(sid, None)

    def write(self, frame: bytes) -> None:
        """Add a frame to the next write.

        Raises:
            errors.NotConnectedError: The connection is down, or the server has stopped reading.
            errors.MessageTooLargeError: The frame is over the server's limit, for which it would end the connection.
        """
        if len(frame) > self._max_payload and payload_size(frame) > self._max_payload:
            raise errors.MessageTooLargeError(payload_size(frame), self._max_payload)
        if self._status != Client.CONNECTED or self._transport is None:
            raise errors.NotConnectedError
        if not self._unwritten:
            if isinstance(self._transport, DirectTransport) and self._transport.unsent_bytes > _MAX_UNSENT_BYTES:
                raise errors.NotConnectedError
            if not self._is_delivering:
                self._loop.call_soon(self.write_out)
        self._unwritten.append(frame)

    def write_out(self) -> None:
        """Write the frames that have been added, now."""
        if not self._unwritten:
            return
        unwritten, self._unwritten = self._unwritten, []
        self.writes += 1
        if self.is_connected and self._transport is not None:
            self._transport.write(b"".join(unwritten) if len(unwritten) > 1 else unwritten[0])

    def deliver(self, frames: list[Message | bytes]) -> list[Message | bytes]:
        """Pass the messages that arrived together to their handlers, and write their answers.

        Returns:
            The other frames: control lines, and messages of nats-py's own subscriptions.
        """
        others: list[Message | bytes] = []
        self._is_delivering = True
        for frame in frames:
            if isinstance(frame, bytes) or (handler := self._handlers.get(frame[0])) is None:
                others.append(frame)
                continue
            try:
                handler(frame[1], frame[2], frame[3], frame[4])
            except Exception:  # noqa: BLE001  (a defect in one handler must not end the connection)
                _log.exception("message_handler_failed")
        try:
            self._on_delivered()
        except Exception:  # noqa: BLE001  (as for one handler)
            _log.exception("message_handler_failed")
        self._is_delivering = False
        self.write_out()
        return others

    async def _connect_to_server(self, s: Srv) -> None:
        self._check_not_ended()
        s.last_attempt = time.monotonic()
        self._use(await self._renew())
        if not self._transport:
            self._transport = DirectTransport(self._receive)
        await self._transport.connect(s.uri, _BUFFER_BYTES, self.options["connect_timeout"])
        self.options["tls_handshake_first"] = "tls" in self.options and await self._is_handshake_first(s)

    async def _is_handshake_first(self, server: Srv) -> bool:
        """Tell whether to begin with the TLS handshake, as a server with `handshake_first` waits for it in silence."""
        expected = self._handshakes.get(server.uri.netloc)
        if expected is not None:
            return expected
        assert isinstance(self._transport, DirectTransport), "it was made by `_connect_to_server`"
        return not await self._transport.is_greeted(_GREETING_SECONDS)

    async def _process_connect_init(self) -> None:
        """Set the connection up; remember who begins at this server, or learn it from the failure."""
        assert self._current_server is not None, "the server is connected"
        server, is_first = self._current_server.uri.netloc, bool(self.options["tls_handshake_first"])
        self._handshakes.pop(server, None)
        try:
            await super()._process_connect_init()
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, OSError):  # an error of TLS that is a ValueError too
                raise
            raise nats_errors.Error("nats: the INFO of the server is not valid") from error
        except ssl.SSLError as error:
            if not is_first or isinstance(error, ssl.SSLCertVerificationError) or "ALERT" in (error.reason or ""):
                raise
            # Its greeting came in place of its part of the handshake: it is only slow. The next attempt waits for it.
            self._handshakes[server] = False
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None
        self._handshakes[server] = is_first

    def _use(self, loaded: Loaded) -> None:
        """Set the options that come from files, as nats-py's `connect` does once."""
        if loaded is self._loaded:
            return
        self._loaded = loaded
        if loaded.tls is not None and loaded.is_tls_required:
            self.options["tls"] = loaded.tls
        self._user_credentials, self._nkeys_seed_str = loaded.credentials, loaded.seed or None
        if loaded.credentials is not None or loaded.seed:
            self._auth_configured = True
            self._setup_nkeys_connect()

    def _receive(self, data: bytes) -> bool:
        """Parse bytes as they arrive, and drop those of a connection that was given up."""
        return not (self.is_closed or self.is_reconnecting) and self._frames.feed(data)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Check the values, and require TLS if the settings do.

        nats-py would send the credentials in clear to a server that does not require it.
        """
        checked_info(info)
        if "max_payload" in info:
            self._max_payload = info["max_payload"]
        if initial_connection and "tls" in self.options and not info.get("tls_required"):
            if not info.get("tls_available") and not self.options["tls_handshake_first"]:
                raise nats_errors.Error("nats: TLS was asked for, and the server offers none")
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)
        discovered = [server for server in self._server_pool if server.discovered]
        for server in discovered[:-_MAX_DISCOVERED]:
            self._server_pool.remove(server)

    async def _process_op_err(self, e: Exception) -> None:
        self._lost()
        await super()._process_op_err(e)

    async def _process_err(self, err_msg: str) -> None:
        """Reconnect after any error but a refused subject, for most of which nats-py would close for good."""
        text = err_msg.strip("'")
        if text.startswith("Permissions Violation"):
            self._on_refused(text)
            return
        self._err = nats_errors.Error(f"nats: {text}")
        await self._process_op_err(self._err)

    async def force_reconnect(self) -> None:
        self._lost()
        await super().force_reconnect()

    def _lost(self) -> None:
        self._unwritten = []
        self._on_lost()


class _FastParser(Parser):
    """A parser in nats-py's form. It delivers messages as they are fed; control lines wait for the read loop."""

    nc: WireClient

    def __init__(self, nc: WireClient) -> None:
        self._budget = LineBudget()
        super().__init__(nc)

    def reset(self) -> None:
        super().reset()
        self._frames = FrameParser()
        self._waiting: list[Message | bytes | FrameError] = []

    def feed(self, data: bytes) -> bool:
        """Take bytes and deliver the messages that they complete; return whether anything waits for `parse`."""
        try:
            frames = self._frames.feed(data)
        except FrameError as error:
            self._waiting.append(error)
            return True
        if frames:
            self._waiting += self.nc.deliver(frames)
        return bool(self._waiting)

    async def parse(self, data: bytes = b"") -> None:
        """Handle control lines, and messages of nats-py's own subscriptions. The read loop's bytes are ignored."""
        waiting, self._waiting = self._waiting, []
        for frame in waiting:
            if not self.nc.is_connected:
                return
            if isinstance(frame, FrameError):
                raise nats_errors.ProtocolError from frame
            if not self._budget.spend(
                time.monotonic(), is_light=isinstance(frame, tuple) or frame.startswith(_REFUSED)
            ):
                raise nats_errors.ProtocolError
            if isinstance(frame, tuple):
                sid, subject, reply, header, payload = frame
                await self.nc._process_msg(sid, subject, reply, payload, header)
                continue
            try:
                await self._control(frame)
            except (ValueError, TypeError, RecursionError, errors.NotConnectedError) as error:
                raise nats_errors.ProtocolError from error

    async def _control(self, line: bytes) -> None:
        word = line[:4].upper()
        if word == b"PING":
            self.nc.write(_PONG)
        elif word == b"PONG":
            await self.nc._process_pong()
        elif word == b"INFO":
            if self._budget.allows_info():
                await self.nc._process_info(json.loads(line[5:]))
        elif word == b"-ERR":
            if line.startswith(_REFUSED) and not self._budget.allows_refusal():
                return
            await self.nc._process_err(line[4:].strip().decode(errors="replace"))
        elif not line.startswith(b"+OK"):
            raise nats_errors.ProtocolError
