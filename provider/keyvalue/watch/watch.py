"""Tell an actor of the changes of a bucket: a durable consumer that all provider instances share, one change at a time.

The server keeps the place, so nothing is missed while no provider runs, and gives each change to one instance. A change
is done when the actor has answered; until then no later one is given out, so the order is that of the bucket.

Source: ADR-8 (watchers), ADR-15 (acknowledgements), nats-server server/consumer.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager

import msgspec

from contracts.extensions import HandleChange
from provider import errors
from provider.keyvalue.bucket.entries import decode_entry
from provider.keyvalue.bucket.store import BucketLink
from provider.keyvalue.keys import decode_key
from provider.keyvalue.payloads import encode_payload
from provider.keyvalue.values import Kind
from provider.keyvalue.watch.dead_letters import put_aside
from provider.keyvalue.watch.patterns import disjoint, matches
from provider.keyvalue.watch.position import Place
from provider.nats import jetstream as js
from provider.nats.buckets import CONSUMER_NOT_FOUND, NANOSECONDS, key_subject
from provider.nats.connection import Connection
from provider.nats.frames import header_value, status_of
from provider.nats.headers import MARKER_REASON
from provider.tasks import cancel

_log = logging.getLogger(__name__)

Deliver = Callable[[HandleChange], AbstractAsyncContextManager[Callable[[], Awaitable[None]]]]
"""Prepares a call of the actor: gives what sends it, which may be done again while nobody runs the actor.

Sending raises `errors.ActorUnreachableError` when the actor was not called, `errors.ActorFailedError` when it was.
"""

_PROGRESS_SECONDS = 1.5
_PULL_SECONDS = 20
_HEARTBEAT_SECONDS = 5
_SILENCE_SECONDS = _HEARTBEAT_SECONDS * 2 + 1.0
_REQUEST_SECONDS = 2.0
_CALL_SECONDS = 16.0
"""How long an actor at work is waited for before its watch ends: its host may have to fetch the payload."""

_FIRST_WAIT_SECONDS, _LAST_WAIT_SECONDS = 0.5, 5.0
"""Until an actor that nobody runs is called again."""

_FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS = 0.25, 30.0
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.25, 5.0

_PULL = msgspec.json.encode(
    {"batch": 1, "expires": _PULL_SECONDS * NANOSECONDS, "idle_heartbeat": _HEARTBEAT_SECONDS * NANOSECONDS}
)
_MessageParts = tuple[str, bytes, bytes, bytes]
"""Subject, reply subject, header block and payload."""


class Watch:
    """One actor's watch.

    Args:
        link: The bucket, held for this; `release` lets it go.
        name: Of the consumer; the same in every provider instance, and for nobody else.
        lattice: As part of a subject.
        deliver: Calls the actor.
    """

    def __init__(self, link: BucketLink, name: str, lattice: str, deliver: Deliver) -> None:
        self._store = link.store
        self.place = Place(name)
        self.link = link
        self._config = link.config.watch
        self._lattice = lattice
        self._deliver = deliver
        self._reason = ""
        self._is_stuck = False
        """Whether there is a change that can neither be told nor put aside: then not even a following that begins is healthy."""
        self._is_free = asyncio.Event()
        """Set while the actor is not at work on a change."""
        self._is_free.set()
        self._task: asyncio.Task[None] | None = None

    @property
    def where(self) -> tuple[object, ...]:
        """Where the server keeps how far the actor has been told; other credentials do not make it another one."""
        config = self.link.config
        return config.connection.servers, config.connection.js_domain, config.bucket.name, self.place.name

    @property
    def unhealthy(self) -> str | None:
        """Why the actor is told of nothing; `None`: it is."""
        return f"watch: {self._reason}" if self._reason else None

    def go_on_from(self, before: Watch) -> None:
        """Know of the same place what the watch before knew; what other credentials have seen may be another account's."""
        if before.link.config.connection == self.link.config.connection:
            self.place = before.place

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"watch {self.place.name}")

    async def finish(self) -> None:
        """End here once the actor has answered what it is at work on."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CALL_SECONDS):
                    await self._is_free.wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End here at once; what was under way is given to another instance."""
        if self._task is not None:
            await cancel(self._task)

    async def forget_place(self) -> None:
        """Let the server forget how far the actor has been told: nobody goes on."""
        if self._store.opened is not None:
            with contextlib.suppress(errors.NatsError):  # it goes by itself after a while
                await self.place.forget(self._store.jetstream, self._store.opened[0].stream)

    def release(self) -> None:
        self.link.let_go()

    async def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._store.wait_open(_deadline(_LAST_PAUSE_SECONDS))
                await self._follow()
            except (errors.NatsError, errors.StoreError, errors.LinkUnavailableError, TimeoutError) as error:
                reason = str(error) or "no answer in time"
                if reason != self._reason:
                    _log.warning("watch_interrupted", extra={"consumer": self.place.name, "reason": reason})
                self._reason = reason
            except Exception as defect:  # noqa: BLE001  (the changes behind it are not given up for it)
                _log.exception("watch_failed", extra={"consumer": self.place.name})
                self._is_stuck, self._reason = True, f"internal error ({type(defect).__name__})"
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE_SECONDS) if self._reason else _FIRST_PAUSE_SECONDS

    async def _follow(self) -> None:
        """Hand on changes until something is wrong, which is raised."""
        jetstream = self._store.jetstream
        connection = jetstream.connection
        assert self._store.opened is not None
        bucket, _ = self._store.opened
        arrived: asyncio.Queue[_MessageParts] = asyncio.Queue()
        inbox = f"_INBOX.{secrets.token_hex(11)}"

        def on_message(subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
            arrived.put_nowait((subject.decode(errors="replace"), reply, header, payload))

        listener = await connection.listen(inbox, on_message)
        try:
            subjects = [key_subject(bucket.name, pattern) for pattern in disjoint(self._config.patterns)]
            await self.place.keep(jetstream, bucket.stream, subjects)
            pull = f"{jetstream.api_prefix}.CONSUMER.MSG.NEXT.{bucket.stream}.{self.place.name}".encode()
            if not self._is_stuck:
                self._note_health()
            while True:
                connection.publish_request(pull, inbox.encode(), _PULL)
                while (message := await _next(arrived)) is not None:
                    await self._settle(jetstream, message)
                    connection.publish_request(pull, inbox.encode(), _PULL)
                self._note_health()
        finally:
            await connection.unlisten(listener, _REQUEST_SECONDS)
            while not arrived.empty():
                _give_back(connection, arrived.get_nowait()[1])

    def _note_health(self) -> None:
        if self._reason:
            _log.info("watch_healed", extra={"consumer": self.place.name})
        self._is_stuck, self._reason = False, ""

    async def _settle(self, jetstream: js.JetStream, message: _MessageParts) -> None:
        """Bring one change to the actor, or put it aside; given back when this is ended meanwhile."""
        reply = message[1]
        revision = js.delivery(reply).sequence
        try:
            answer = await self._with_progress(jetstream.connection, reply, self._outcome(jetstream, message, revision))
        except asyncio.CancelledError:
            _give_back(jetstream.connection, reply)
            raise
        finally:
            self._is_free.set()
        self.place.done(revision)
        jetstream.connection.publish(reply, answer)
        self._note_health()

    async def _with_progress(self, connection: Connection, reply: bytes, work: Coroutine[None, None, bytes]) -> bytes:
        """Do something, and tell the server that it goes on, or it would give the change out again."""
        working = asyncio.ensure_future(work)
        try:
            while True:
                done, _ = await asyncio.wait({working}, timeout=_PROGRESS_SECONDS)
                if done:
                    return working.result()
                connection.publish(reply, b"+WPI")
        finally:
            if not working.done():
                await cancel(working)

    async def _outcome(self, jetstream: js.JetStream, message: _MessageParts, revision: int) -> bytes:
        """Return what is to be said of a change that is told, or put aside."""
        subject, _, header, payload = message
        bucket_key = subject.split(".", 2)[2]
        change = self._change(bucket_key, revision, header, payload)
        if change is None:
            return b"+ACK"
        place = self.place
        try:
            await self._tell(change, bucket_key)
        except errors.ActorFailedError as error:
            fields = {"consumer": place.name, "subject": subject, "tries": place.failed_calls, "reason": error.reason}
            _log.error("watch_gave_up", extra=fields)
            self._is_stuck = True
            await put_aside(jetstream, self._lattice, place, subject, payload)
            return b"+TERM"
        return b"+ACK"

    async def _tell(self, change: HandleChange, bucket_key: str) -> None:
        """Call the actor until it has taken a change, or something later stands under the key.

        Raises:
            errors.ActorFailedError: It was called as often as it may be.
        """
        place = self.place
        place.begin(change.revision)
        while place.failed_calls < self._config.tries:
            if place.failed_calls:
                self._is_free.set()
                doubled = _FIRST_BACKOFF_SECONDS * 2 ** min(place.failed_calls - 1, 10)
                await asyncio.sleep(min(doubled, _LAST_BACKOFF_SECONDS))
                if await self._is_overwritten(bucket_key, change.revision):
                    return
            try:
                await self._call(change)
            except errors.ActorFailedError as error:
                place.failed(error.reason)
            else:
                return
        raise errors.ActorFailedError(place.reason)

    async def _call(self, change: HandleChange) -> None:
        """Call the actor once; while there is none to be called, wait."""
        wait_seconds = _FIRST_WAIT_SECONDS
        async with self._deliver(change) as send:
            while True:
                self._is_free.clear()
                try:
                    return await send()
                except errors.ActorUnreachableError as error:
                    self._is_free.set()
                    if wait_seconds == _FIRST_WAIT_SECONDS:
                        _log.info("watch_waits", extra={"consumer": self.place.name, "reason": error.reason})
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, _LAST_WAIT_SECONDS)

    async def _is_overwritten(self, bucket_key: str, revision: int) -> bool:
        """Tell whether the bucket has kept something later in place of a change, which then is told instead."""
        deadline = _deadline(_REQUEST_SECONDS)
        bucket, _ = await self._store.wait_open(deadline)
        if bucket.traits.has_history:
            return False
        return (await bucket.read_latest(bucket_key, deadline)).revision > revision

    def _change(self, bucket_key: str, revision: int, header: bytes, payload: bytes) -> HandleChange | None:
        """Return what the actor is told; `None` for a key that is none of the actor's, or that it does not watch.

        The server sends such keys where patterns overlap, and nats-server 2.9, which knows one filter only, everything.
        """
        key = decode_key(bucket_key, self.link.config.key_prefix)
        if key is None or not any(matches(pattern, bucket_key) for pattern in self._config.patterns):
            return None
        value = decode_entry(revision, header, payload).value
        if value is None:
            is_expiry = header_value(header, MARKER_REASON) == b"MaxAge"
            return HandleChange(key, "", "", revision, "expire" if is_expiry else "delete")
        text = "" if value.kind is Kind.BINARY else encode_payload(value).decode()
        return HandleChange(key, value.kind.value, text, revision, "put")


async def _next(arrived: asyncio.Queue[_MessageParts]) -> _MessageParts | None:
    """Wait for the next change; `None`: the server has ended the request, so that another is to be made.

    Raises:
        errors.NatsError: The consumer is gone.
        TimeoutError: The server says nothing, not even that there is nothing.
    """
    while True:
        async with asyncio.timeout(_SILENCE_SECONDS):
            message = await arrived.get()
        _, reply, header, payload = message
        if reply.startswith(js.DELIVERED):
            return message
        status = status_of(header)
        if status == 503 and not payload:
            raise errors.NoRespondersError
        if status == 409 and (b"Deleted" in header or b"deleted" in header):
            raise errors.ApiError(status, CONSUMER_NOT_FOUND, "consumer deleted")
        if status != 100:
            return None


def _give_back(connection: Connection, acknowledgement: bytes) -> None:
    """Have the server give a change out again at once; without a word it does so after a while."""
    if acknowledgement.startswith(js.DELIVERED):
        with contextlib.suppress(errors.NotConnectedError):
            connection.publish(acknowledgement, b"-NAK")


def _deadline(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds
