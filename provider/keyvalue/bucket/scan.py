"""What keys a bucket has: the heads of its messages, through a short-lived consumer, and pages of keys made of them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import msgspec

from contracts.extensions import ListKeys, ListKeysResponse
from provider import errors
from provider.keyvalue.bucket.bucket import Bucket, store_error
from provider.keyvalue.bucket.entries import is_live
from provider.keyvalue.keys import RESERVED_KEY, decode_key
from provider.nats.buckets import NANOSECONDS, NO_SPACE, key_subject
from provider.nats.jetstream import DELIVERED, JetStream, delivery

_BATCH = 256
_PULL_SECONDS = 2.0
_HEADS_PER_PAGE = 20_000
_BEHIND_SECONDS = 0.002
_FILTERS_LEVEL = 1
"""The API level, of nats-server 2.11, from which on a consumer has several filters for certain."""


class Head(NamedTuple):
    """A message without its payload: the key as stored, its revision, when it was stored, its header block."""

    bucket_key: str
    revision: int
    time_ms: int
    header: bytes

    def is_live(self, now_ms: int) -> bool:
        """Tell whether it is a value that can be read, neither a marker nor expired."""
        return is_live(self.header, now_ms)


async def heads(
    jetstream: JetStream, bucket: Bucket, after_revision: int = 0, under: str = "", *, has_earlier: bool = False
) -> AsyncGenerator[Head, None]:
    """Yield the last message of every key in the order of their revisions, markers and expired ones included.

    A key that is written meanwhile comes again. A subject that is not UTF-8 is no key, and is left out. What was
    acknowledged before is there, also where the replica that is read from is behind others.

    Args:
        jetstream: Where the bucket lives.
        bucket: Which.
        after_revision: Only later ones.
        under: Only keys that begin so, as stored; "" or whole tokens with the dot behind them.
        has_earlier: Whether earlier messages of a key may come too, all behind `after_revision`: a bucket with history
            need not be looked through whole then.

    Raises:
        errors.NatsError, TimeoutError: It could not be read.
    """
    connection = jetstream.connection
    arrived: asyncio.Queue[tuple[bytes, bytes, bytes]] = asyncio.Queue()
    inbox = f"_INBOX.{secrets.token_hex(11)}"
    listener = await connection.listen(
        inbox, lambda subject, reply, header, _: arrived.put_nowait((subject, reply, header))
    )
    loop = asyncio.get_running_loop()
    consumer, give_up = "", 0.0
    try:
        mark = await _mark(bucket, after_revision, under, loop.time() + _PULL_SECONDS)
        request = {"stream_name": bucket.stream, "config": _consumer(bucket, after_revision, under, has_earlier)}
        answer = await jetstream.api(f"CONSUMER.CREATE.{bucket.stream}", request, loop.time() + _PULL_SECONDS)
        consumer = msgspec.json.decode(answer)["name"]
        pull = f"{jetstream.api_prefix}.CONSUMER.MSG.NEXT.{bucket.stream}.{consumer}".encode()
        prefix = key_subject(bucket.name, "")
        while True:
            connection.publish_request(pull, inbox.encode(), msgspec.json.encode({"batch": _BATCH, "no_wait": True}))
            for _ in range(_BATCH):
                async with asyncio.timeout(_PULL_SECONDS):
                    subject, reply, header = await arrived.get()
                if not reply.startswith(DELIVERED):
                    if not mark:
                        return
                    give_up = give_up or loop.time() + _PULL_SECONDS
                    if loop.time() >= give_up:
                        raise TimeoutError
                    await asyncio.sleep(_BEHIND_SECONDS)
                    break
                delivered = delivery(reply)
                revision = delivered.sequence
                if revision >= mark:
                    mark = 0
                try:
                    bucket_key = subject.decode().removeprefix(prefix)
                except UnicodeDecodeError:
                    continue
                if revision > after_revision:
                    yield Head(bucket_key, revision, delivered.time_ms, header)
    finally:
        await connection.unlisten(listener, _PULL_SECONDS)
        if consumer:
            with contextlib.suppress(errors.NatsError):  # it goes by itself after a while
                await jetstream.api(f"CONSUMER.DELETE.{bucket.stream}.{consumer}", None, loop.time() + _PULL_SECONDS)


def _consumer(bucket: Bucket, after_revision: int, under: str, has_earlier: bool) -> dict[str, Any]:
    """A bucket without history has no message but the last of each key, so it can be read from anywhere on."""
    start: dict[str, Any]
    if after_revision and (has_earlier or not bucket.traits.has_history):
        start = {"deliver_policy": "by_start_sequence", "opt_start_seq": after_revision + 1}
    elif bucket.traits.has_history:
        start = {"deliver_policy": "last_per_subject"}
    else:
        start = {"deliver_policy": "all"}
    return start | {
        **_filter(bucket, under),
        "ack_policy": "none",
        "headers_only": True,
        "inactive_threshold": 30 * NANOSECONDS,
    }


def _filter(bucket: Bucket, under: str) -> dict[str, Any]:
    subject = key_subject(bucket.name, f"{under}>")
    if not under or not _has_marks(bucket, under):
        return {"filter_subject": subject}
    return {"filter_subjects": [subject, key_subject(bucket.name, RESERVED_KEY)]}


def _has_marks(bucket: Bucket, under: str) -> bool:
    return bucket.traits.replicas > 1 and (not under or bucket.traits.level >= _FILTERS_LEVEL)


async def _mark(bucket: Bucket, after_revision: int, under: str, deadline: float) -> int:
    """Write the reserved key where several replicas may be read from: the one that has it has all that came before.

    Returns its revision; 0 where that is not needed, or cannot be done: no room, no permission.
    """
    if not _has_marks(bucket, under):
        return 0
    try:
        revision = await bucket.write_reserved(deadline)
    except errors.PermissionsError:
        return 0
    except errors.ApiError as error:
        if error.err_code not in NO_SPACE:
            raise
        return 0
    return revision if revision > after_revision else 0


async def list_keys(
    jetstream: JetStream, bucket: Bucket, request: ListKeys, key_prefix: str, deadline: float
) -> ListKeysResponse:
    """Return a page of an actor's keys, in the order in which they were last written; none has a key twice.

    A key that is written between two pages may be on both. A page may have fewer keys than it may have, and even none,
    with others to follow: when many do not match.

    Raises:
        errors.BadCursorError: The cursor is none that this operation gave.
        errors.StoreError: The bucket could not be read.
    """
    if request.cursor and not (request.cursor.isascii() and request.cursor.isdigit() and len(request.cursor) < 19):
        raise errors.BadCursorError(request.cursor[:40])
    loop = asyncio.get_running_loop()
    began, now_ms = loop.time(), bucket.now_ms()
    keys: dict[str, None] = {}
    revision = looked_at = 0
    try:
        async with (
            asyncio.timeout_at(deadline),
            contextlib.aclosing(heads(jetstream, bucket, int(request.cursor or 0))) as found,
        ):
            async for head in found:
                if len(keys) == request.limit or looked_at == _HEADS_PER_PAGE:
                    return ListKeysResponse(list(keys), str(revision))
                revision, looked_at = head.revision, looked_at + 1
                key = decode_key(head.bucket_key, key_prefix)
                if key is not None and key.startswith(request.prefix):
                    keys.pop(key, None)  # it was written since it came: what counts is what stands there now
                    if head.is_live(now_ms):
                        keys[key] = None
    except (errors.NatsError, TimeoutError) as error:
        raise store_error(error, loop.time() - began) from None
    return ListKeysResponse(list(keys), "")
