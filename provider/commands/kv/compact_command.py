"""`kv compact`: removes the markers of deleted and expired keys, and the room that they take."""

from __future__ import annotations

import asyncio
import contextlib

from provider.commands.connect import deadline_in, explained
from provider.commands.kv.name_rules import check_bucket
from provider.commands.kv.open_bucket import OpenBucket
from provider.commands.kv.parameters import BucketArgument, ForceOption, JsonOption
from provider.commands.kv.running import in_bucket, is_confirmed
from provider.commands.output import stderr_console, write_line
from provider.commands.printing import print_line, print_object
from provider.commands.target import Target
from provider.keyvalue.bucket.scan import KeyHeader, scan
from provider.keyvalue.keys import RESERVED_KEY
from provider.nats.buckets import key_subject

_REQUESTS_AT_ONCE = 64
"""Removals that are under way together: enough to hide the round trips."""

RISK = "values that were deleted may come back when nats-server is killed later"


def compact(target: Target, bucket: BucketArgument, force: ForceOption = False, json: JsonOption = False) -> None:
    """Remove the markers of deleted keys. Deleted values may come back when nats-server (2.10 to 2.15) is killed later."""
    check_bucket(bucket)
    if not is_confirmed(f"Remove the markers of deleted keys in {bucket}? Then {RISK}.", is_forced=force):
        write_line(stderr_console(), "Skipped, nothing was changed")
        return

    async def work(open_bucket: OpenBucket) -> int:
        return await remove_markers(open_bucket, target.timeout_seconds)

    removed = in_bucket(target, bucket, work)
    if json:
        print_object({"bucket": bucket, "removed_markers": removed})
    else:
        print_line(f"{removed} markers removed")


async def remove_markers(it: OpenBucket, timeout_seconds: float) -> int:
    """Remove all markers of a bucket and return their number. A key that is written meanwhile keeps its new value.

    Args:
        it: The bucket.
        timeout_seconds: Limit for each answer of the server.
    """

    async def remove(head: KeyHeader) -> bool:
        return bool(
            await it.jetstream.purge(
                it.bucket.stream,
                key_subject(it.name, head.bucket_key),
                deadline_in(timeout_seconds),
                below_sequence=head.revision + 1,
            )
        )

    removed = 0
    found: list[KeyHeader] = []
    with explained(it.name):
        async with contextlib.aclosing(scan(it.jetstream, it.bucket)) as heads:
            async for head in heads:
                if head.is_marker and head.bucket_key != RESERVED_KEY:
                    found.append(head)
                if len(found) == _REQUESTS_AT_ONCE:
                    removed += sum(await asyncio.gather(*map(remove, found)))
                    found.clear()
        removed += sum(await asyncio.gather(*map(remove, found)))
    return removed
