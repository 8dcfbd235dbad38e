"""How far an actor has been told: a durable consumer keeps it, and what is known of it here should that be lost.

Source: ADR-8 (watchers), nats-server server/consumer.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from provider import errors
from provider.nats import jetstream as js
from provider.nats.buckets import CONSUMER_NOT_FOUND, NANOSECONDS

_ACK_WAIT_SECONDS = 5
_FORGOTTEN_DAYS = 7
_REQUEST_SECONDS = 2.0
_SAME_CREATED_MS = 50
"""A server before 2.12 tells a slightly other time of creation once it was restarted."""


class _Sequences(msgspec.Struct, frozen=True):
    stream_seq: int = 0


class _ConsumerInfo(msgspec.Struct, frozen=True):
    """What the server says of a consumer. `num_ack_pending` counts what was given out and is not done."""

    created: str
    config: dict[str, Any]
    delivered: _Sequences
    num_ack_pending: int = 0

    @property
    def created_ms(self) -> int:
        return js.time_ms(self.created)

    @property
    def done_revision(self) -> int:
        """No change up to this one is due. What was given out last may be: one at a time is out."""
        return self.delivered.stream_seq - (1 if self.num_ack_pending else 0)


_info_decoder = msgspec.json.Decoder(_ConsumerInfo)


class Place:
    """One actor's place in a bucket. The server's counts as long as there is one.

    Attributes:
        name: Of the consumer; the same in every provider instance, and for nobody else.
        revision: Everything up to it has been told, as far as is known here; other instances may have told more.
        begun_revision: The change that the actor was last called with.
        failed_calls: How often it was called with that and did not take it.
        reason: What came of the last such call.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.revision = 0
        self.begun_revision = 0
        self.failed_calls = 0
        self.reason = ""
        self._stream_created = ""
        self._created_ms = 0
        """When the consumer was made which this instance has found first, or has made itself."""

    async def keep(self, jetstream: js.JetStream, stream: str, subjects: Sequence[str]) -> None:
        """Find the consumer, or make it: a new one begins with now, a lost one behind what is known to be told.

        In a stream that was made anew, where revisions begin again, a lost one begins with everything.

        Raises:
            errors.NatsError: It could not be.
        """
        info = await jetstream.stream_info(stream, _deadline())
        found = await self._find(jetstream, stream)
        if self._stream_created not in ("", info.created):
            self.revision = self.begun_revision = self.failed_calls = 0
        if found is not None:
            started = {name: found.config[name] for name in ("deliver_policy", "opt_start_seq") if name in found.config}
        elif not self._stream_created:
            started = {"deliver_policy": "new"}
        else:
            # A server that lost power may have lost what was told last; those revisions are given out again.
            start = min(self.revision, info.state.last_seq) + 1
            started = {"deliver_policy": "by_start_sequence", "opt_start_seq": start}
        request = {"stream_name": stream, "config": self._config(subjects) | started}
        answer = await jetstream.api(f"CONSUMER.CREATE.{stream}.{self.name}", request, _deadline())
        made = _decode(answer)
        if found is None or not self._created_ms:
            self._created_ms = made.created_ms
        self._stream_created = info.created
        self.revision = max(self.revision, made.done_revision)

    async def forget(self, jetstream: js.JetStream, stream: str) -> None:
        """Let the server forget it, unless another instance has made it anew meanwhile, for a link that was put again.

        Raises:
            errors.NatsError: It could not be; a consumer that nobody uses goes by itself after a while.
        """
        found = await self._find(jetstream, stream)
        if found is not None and abs(found.created_ms - self._created_ms) <= _SAME_CREATED_MS:
            await jetstream.api(f"CONSUMER.DELETE.{stream}.{self.name}", None, _deadline())

    def begin(self, revision: int) -> None:
        """Note which change the actor is called with next."""
        if revision != self.begun_revision:
            self.begun_revision, self.failed_calls = revision, 0

    def failed(self, reason: str) -> None:
        """Count a call that the actor did not take."""
        self.failed_calls += 1
        self.reason = reason

    def done(self, revision: int) -> None:
        """Note that a change is told, or put aside."""
        self.revision, self.failed_calls = revision, 0

    async def _find(self, jetstream: js.JetStream, stream: str) -> _ConsumerInfo | None:
        try:
            return _decode(await jetstream.api(f"CONSUMER.INFO.{stream}.{self.name}", None, _deadline()))
        except errors.ApiError as error:
            if error.err_code != CONSUMER_NOT_FOUND:
                raise
            return None

    def _config(self, subjects: Sequence[str]) -> dict[str, Any]:
        filters = {"filter_subject": subjects[0]} if len(subjects) == 1 else {"filter_subjects": list(subjects)}
        return {
            "durable_name": self.name,
            "name": self.name,
            "ack_policy": "explicit",
            "ack_wait": _ACK_WAIT_SECONDS * NANOSECONDS,
            "max_ack_pending": 1,
            "max_deliver": -1,
            "inactive_threshold": _FORGOTTEN_DAYS * 86400 * NANOSECONDS,
            **filters,
        }


def _decode(answer: bytes) -> _ConsumerInfo:
    try:
        return _info_decoder.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise errors.ApiError(500, 0, "answer that is not JetStream's") from None


def _deadline() -> float:
    return asyncio.get_running_loop().time() + _REQUEST_SECONDS
