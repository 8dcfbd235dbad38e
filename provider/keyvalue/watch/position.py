"""The position of a watch: the changes that are done, and the calls for the present one that failed.

The server keeps it as a durable consumer. This process keeps a copy, to recreate a consumer that was deleted.

Source: ADR-8 (watchers), nats-server server/consumer.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from provider.nats import jetstream as js
from provider.nats.buckets import NANOSECONDS
from provider.nats.times import time_ms

_ACK_WAIT_SECONDS = 5
"""Time without acknowledgement or sign of progress after which the server gives a change to another instance.

Three signs of progress fit in, see `watch`. A killed instance delays its change by this time at most.
"""

_INACTIVE_DAYS = 7
"""When the server deletes an unused consumer: a lattice may be down for some days without losing changes."""

_REQUEST_SECONDS = 2.0
"""Time limit for one request to JetStream: longer than the election of a leader."""

_SAME_CREATED_MS = 50
"""Greatest difference of a consumer's creation time: a server before 2.12 reports another one after a restart."""


class Position:
    """The position of one watch in its bucket.

    The server's durable consumer is authoritative. This copy is used only to recreate a consumer that was deleted.

    Attributes:
        name: Name of the consumer: the same in every provider instance, and unique to the link.
        revision: The revision up to which all changes are done, as far as this instance knows; others may have done
            more.
        caught_up: A revision up to which all changes were done before a later one was stored, as far as this instance knows.
        called_revision: The change that the actor was last called with.
        failed_calls: Number of calls with this change that failed.
        reason: Reason of the last failure.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.revision = 0
        self.caught_up = 0
        self.called_revision = 0
        self.failed_calls = 0
        self.reason = ""
        self._stream_created = ""
        """The stream's time of creation; "" before the first `ensure`."""
        self._created_ms = 0
        """Creation time of the consumer that this instance has found first, or has created itself."""

    async def ensure(self, jetstream: js.JetStream, stream: str, subjects: Sequence[str]) -> None:
        """Find the consumer, or create it, with these subjects.

        A new consumer begins with the next change. A consumer that was deleted begins again behind the last change that
        is known to be done. When the stream was created anew, its revisions begin at 1 again, and so does the consumer.

        Raises:
            errors.NatsError: The server refuses, or does not answer.
        """
        info = await jetstream.stream_info(stream, _deadline())
        found = await jetstream.consumer_info(stream, self.name, _deadline())
        if self._stream_created not in ("", info.created):
            self.revision = self.caught_up = self.called_revision = self.failed_calls = 0
        if found is not None:
            # The server refuses to change where an existing consumer began.
            start = {name: found.config[name] for name in ("deliver_policy", "opt_start_seq") if name in found.config}
        elif not self._stream_created:
            start = {"deliver_policy": "new"}
        else:
            # A server that lost power may have lost its last revisions, and gives their numbers to new ones.
            first = min(self.revision, info.state.last_seq) + 1
            start = {"deliver_policy": "by_start_sequence", "opt_start_seq": first}
        created = await jetstream.create_consumer(stream, self._config(subjects) | start, _deadline())
        if found is None or not self._created_ms:
            self._created_ms = time_ms(created.created)
        self._stream_created = info.created
        self.revision = max(self.revision, _done_revision(created))
        if not created.num_pending and not created.num_ack_pending:
            self.caught_up = max(self.caught_up, created.delivered.stream_seq)

    async def delete(self, jetstream: js.JetStream, stream: str) -> None:
        """Delete the consumer, unless another instance has created it anew meanwhile, for a link that was put again.

        Raises:
            errors.NatsError: The server refuses, or does not answer. It deletes an unused consumer by itself later.
        """
        found = await jetstream.consumer_info(stream, self.name, _deadline())
        if found is not None and abs(time_ms(found.created) - self._created_ms) <= _SAME_CREATED_MS:
            await jetstream.delete_consumer(stream, self.name, _deadline())

    def begin_calls(self, revision: int) -> None:
        """Note the change that the actor is called with next. The calls that failed count on for the same change."""
        if revision != self.called_revision:
            self.called_revision, self.failed_calls = revision, 0

    def add_failure(self, reason: str) -> None:
        """Count a call of the actor that failed."""
        self.failed_calls += 1
        self.reason = reason

    def advance(self, revision: int, *, is_last: bool) -> None:
        """Note that a change is done: the actor has taken it, or it is a dead letter.

        Args:
            revision: The change.
            is_last: Whether there was no later change when it was delivered, nor one that has replaced it since.
        """
        self.revision, self.failed_calls = revision, 0
        if is_last:
            self.caught_up = revision

    def has_done(self, repeated: bytes) -> bool:
        """Tell whether a change that a message repeats was certainly delivered.

        The message has replaced that change. So it is the only news of the key for a watch that was behind, or whose actor
        has not taken the change yet.
        """
        return repeated.isdigit() and int(repeated) <= self.caught_up

    def _config(self, subjects: Sequence[str]) -> dict[str, Any]:
        # One subject goes into the field that every server knows: nats-server 2.9 has no other.
        filters = {"filter_subject": subjects[0]} if len(subjects) == 1 else {"filter_subjects": list(subjects)}
        return {
            "durable_name": self.name,
            "name": self.name,
            "ack_policy": "explicit",
            "ack_wait": _ACK_WAIT_SECONDS * NANOSECONDS,
            # One change at a time in all instances together: this keeps the order.
            "max_ack_pending": 1,
            # The actor's tries are counted here; the server never gives up.
            "max_deliver": -1,
            "inactive_threshold": _INACTIVE_DAYS * 86400 * NANOSECONDS,
            **filters,
        }


def _done_revision(consumer: js.ConsumerInfo) -> int:
    """Return a revision up to which all changes are done: the last one delivered is not, while its answer is due."""
    return consumer.delivered.stream_seq - (1 if consumer.num_ack_pending else 0)


def _deadline() -> float:
    return asyncio.get_running_loop().time() + _REQUEST_SECONDS
