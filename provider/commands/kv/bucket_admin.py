"""Buckets as a whole: create, list, inspect, remove. Source: ADR-8 (the stream behind a bucket)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Struct, field

from provider import errors
from provider.commands.connect import explained
from provider.commands.errors import BucketDiffersError, BucketNotFoundError, OptionError
from provider.commands.kv.bucket_info import BucketInfo, BucketSettings, BucketStatus
from provider.keyvalue.bucket.pages.pages_settings import (
    bucket_of_pages,
    pages_bucket,
    reason_not_to_use,
    reason_not_to_write,
)
from provider.keyvalue.bucket.requirements import unmet_requirement
from provider.keyvalue.bucket.stream import Traits, stream_config
from provider.keyvalue.link_config import BucketConfig
from provider.nats import jetstream as js
from provider.nats.buckets import (
    EVERY_BUCKET,
    NANOSECONDS,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    STREAM_PREFIX,
    TTL_LEVEL,
    key_subject,
    stream_name,
)

_MARKER_TTL = "subject_delete_marker_ttl"


class _Page(Struct, frozen=True):
    """One page of STREAM.LIST."""

    total: int = 0
    streams: list[msgspec.Raw] | None = field(default=None)


_page_decoder = msgspec.json.Decoder(_Page)
_info_decoder = msgspec.json.Decoder(BucketInfo)
_stream_decoder = msgspec.json.Decoder(js.StreamInfo)


async def add_bucket(jetstream: js.JetStream, settings: BucketSettings, deadline: float) -> BucketStatus:
    """Create a bucket. It is not an error if a bucket with the same settings exists.

    Raises:
        BucketDiffersError: A bucket of this name has other settings.
        OptionError: The server does not support one of the settings.
        CommandError: The server refused, or did not answer.
    """
    with explained():
        level = await jetstream.level(deadline)
        if settings.marker_ttl_seconds and level < TTL_LEVEL:
            raise OptionError("--marker-ttl", "the server is older than 2.11, which introduced TTLs of messages")
        try:
            await jetstream.create_stream(_stream_config(settings, level), deadline)
        except errors.ApiError as error:
            if error.err_code == STREAM_NAME_IN_USE:
                raise BucketDiffersError(settings.name) from None
            raise
    status = await bucket_status(jetstream, settings.name, deadline)
    is_ignored = settings.is_compressed and status.info.config.compression == "none"
    return msgspec.structs.replace(status, ignored=("--compress",)) if is_ignored else status


async def list_buckets(jetstream: js.JetStream, deadline: float) -> list[BucketInfo]:
    """Return all buckets of the account with the sizes of their pages, sorted by name."""
    found: list[BucketInfo] = []
    pages: dict[str, int] = {}
    offset = 0
    with explained():
        while True:
            request = {"offset": offset, "subject": EVERY_BUCKET}
            page = _page_decoder.decode(await jetstream.api("STREAM.LIST", request, deadline))
            streams = page.streams or []
            offset += len(streams)
            for info in map(_info_decoder.decode, streams):
                if bucket := bucket_of_pages(info.config.name):
                    pages[bucket] = info.state.bytes
                elif info.config.name.startswith(STREAM_PREFIX):
                    found.append(info)
            if not streams or offset >= page.total:
                break
    found.sort(key=lambda info: info.name)
    return [msgspec.structs.replace(info, pages_bytes=pages.get(info.name, 0)) for info in found]


async def bucket_status(jetstream: js.JetStream, bucket: str, deadline: float) -> BucketStatus:
    """Return the status of a bucket.

    Raises:
        BucketNotFoundError: There is no such bucket.
        CommandError: The server refused, or did not answer.
    """
    with explained(bucket):
        level, answer, pages = await asyncio.gather(  # one round trip
            jetstream.level(deadline),
            jetstream.api(f"STREAM.INFO.{stream_name(bucket)}", None, deadline),
            _pages(jetstream, bucket, deadline),
        )
        stream = _stream_decoder.decode(answer)
        check_is_bucket(bucket, stream)
    status = BucketStatus(_info_decoder.decode(answer), _expiry_reason(stream, level), unmet_requirement(stream.config))
    if pages is None:
        return status
    found = _stream_decoder.decode(pages).config
    unusable = reason_not_to_use(bucket, found) or reason_not_to_write(stream.config, found)
    return msgspec.structs.replace(status, pages=_info_decoder.decode(pages), pages_unusable=unusable)


async def remove_bucket(jetstream: js.JetStream, bucket: str, deadline: float) -> None:
    """Remove a bucket and all its values, with the stream of their pages.

    Raises:
        BucketNotFoundError: There is no such bucket.
        CommandError: The server refused, or did not answer.
    """
    with explained(bucket):
        check_is_bucket(bucket, await jetstream.stream_info(stream_name(bucket), deadline))
        # The heads first: heads without pages would be damaged values.
        await jetstream.api(f"STREAM.DELETE.{stream_name(bucket)}", None, deadline)
        pages = await _pages(jetstream, bucket, deadline)
        if pages is not None and not reason_not_to_use(bucket, _stream_decoder.decode(pages).config):
            await jetstream.api(f"STREAM.DELETE.{stream_name(pages_bucket(bucket))}", None, deadline)


async def _pages(jetstream: js.JetStream, bucket: str, deadline: float) -> bytes | None:
    """Return the description of the stream that has the name of a bucket's pages; `None` if there is no such stream.

    A user who may not ask for it cannot have made it.
    """
    try:
        return await jetstream.api(f"STREAM.INFO.{stream_name(pages_bucket(bucket))}", None, deadline)
    except errors.PermissionsError:
        return None
    except errors.ApiError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise
        return None


def check_is_bucket(bucket: str, stream: js.StreamInfo) -> None:
    """Check that a stream is a bucket with its own subjects, not a mirror or a stream with other subjects.

    Raises:
        BucketNotFoundError: The stream is not such a bucket.
    """
    if stream.config.subjects != [key_subject(bucket, ">")]:
        raise BucketNotFoundError(bucket, f"stream {stream_name(bucket)} is no bucket of its own subjects")


def _expiry_reason(stream: js.StreamInfo, level: int) -> str:
    if Traits.from_info(stream, level).expires_by_itself:
        return ""
    if level < TTL_LEVEL:
        return "the server is older than 2.11"
    return "the bucket keeps history" if stream.config.allow_msg_ttl else "the bucket has no TTLs of messages"


def _stream_config(settings: BucketSettings, level: int) -> dict[str, Any]:
    """Return the configuration of the stream: the provider's own, extended by the settings that only a person gives."""
    bucket = BucketConfig(
        name=settings.name,
        replicas=settings.replicas,
        storage=settings.storage,
        ttl_seconds=settings.ttl_seconds,
        max_bytes=settings.max_bytes,
        max_value_bytes=settings.max_value_bytes,
    )
    config = stream_config(bucket, level) | {"max_msgs_per_subject": settings.history}
    if settings.description:
        config["description"] = settings.description
    if settings.is_compressed:
        config["compression"] = "s2"
    if settings.cluster or settings.tags:
        config["placement"] = {"cluster": settings.cluster, "tags": list(settings.tags)}
    if settings.marker_ttl_seconds:
        config[_MARKER_TTL] = settings.marker_ttl_seconds * NANOSECONDS
    if settings.republish:
        republish = settings.republish
        config["republish"] = {
            "src": republish.source or ">",
            "dest": republish.destination,
            "headers_only": republish.is_headers_only,
        }
    return config
