"""`keyvalue-nats import`: copies the keys of a Redis database into a bucket, so that it can be interrupted and repeated."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from provider import errors
from provider.commands.errors import MissingExtraError
from provider.commands.kv.name_rules import check_bucket
from provider.commands.kv.open_bucket import OpenBucket
from provider.commands.kv.parameters import BucketArgument, JsonOption
from provider.commands.kv.running import StopSignals, in_bucket
from provider.commands.output import stderr_console, write_line
from provider.commands.printing import print_line, print_object
from provider.commands.target import Target
from provider.keyvalue.keys import encode_key
from provider.plain_text import cut

if TYPE_CHECKING:
    from provider.commands.kv.redis_source import Read, RedisSource

EXAMPLES = """\b
Examples:
  keyvalue-nats kv add users --replicas 3
  keyvalue-nats import redis://redis:6379 users
  keyvalue-nats import rediss://reader@redis:6380/2 users \\
      --match 'user:*' --prefix app.

Texts, lists and sets come with their expiry; a counter of Redis is a text that counts on. A key that the bucket has
already stays as it is, so an import that was interrupted is continued by the same command. With --replace the value of
Redis wins. Of a cluster, name any node: all masters are read.

Exit codes: 0 if every key is in the bucket; 1 if some are not, each with its reason on standard error, or if a server
cannot be reached; 2 if the command line is not valid.
"""

_PLACE = re.compile(r"[^/]*(/\d*)?")
"""Host and port of a URL, and the number of a database. The client takes any other text for database 0."""

_AT_ONCE = 64
"""Keys that are written together: enough to hide the round trips to NATS."""

_REFUSALS = (
    errors.EmptyKeyError,
    errors.KeyTooLongError,
    errors.ValueTooLargeError,
    errors.ElementTooLargeError,
    errors.CollectionFullError,
    errors.TooMuchAtOnceError,
)
"""Errors that concern one key alone. Any other ends the import."""

_MOST_REASONS = 100
"""Keys whose reason is shown. The others are counted."""

_SHOWN_CHARACTERS = 200
"""Length to which the name of such a key is cut."""

_LINE_SECONDS = 10.0
"""Time between two lines of progress where standard error is no terminal."""


def import_redis(
    target: Target,
    url: Annotated[str, typer.Argument(metavar="URL", help="URL of the Redis database, as redis://HOST:PORT/NUMBER.")],
    bucket: BucketArgument,
    match: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only keys that match a pattern of Redis, as user:*.")
    ] = "",
    prefix: Annotated[
        str, typer.Option(metavar="TEXT", help="Beginning of all keys in the bucket: the KEY_PREFIX of the links.")
    ] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace values that the bucket has.")] = False,
    redis_password: Annotated[
        str, typer.Option(envvar="REDIS_PASSWORD", metavar="TEXT", help="Password for Redis, if not in the URL.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Copy texts, lists and sets of a Redis database into a bucket, with their expiry."""
    check_bucket(bucket)
    scheme, _, rest = url.partition("://")
    if scheme not in ("redis", "rediss", "unix"):
        raise typer.BadParameter("expected a URL like redis://host:6379/0", param_hint="URL")
    if scheme != "unix" and not _PLACE.fullmatch(rest.rpartition("@")[2].partition("?")[0]):
        raise typer.BadParameter("expected the number of a database behind the host, as in /0", param_hint="URL")
    import_ = _Import(prefix, is_replacing=replace)

    async def work(open_bucket: OpenBucket) -> None:
        source = _source(url, redis_password)
        async with source:
            await import_.run(source, open_bucket, match)

    try:
        in_bucket(target, bucket, work, StopSignals())
    except (KeyboardInterrupt, asyncio.CancelledError):
        write_line(stderr_console(), "interrupted; the same command continues", "yellow")
        raise typer.Exit(1) from None
    finally:
        import_.report(bucket, is_json=json)
    if import_.refused:
        raise typer.Exit(1)


def _source(url: str, password: str) -> RedisSource:
    try:
        from provider.commands.kv.redis_source import RedisSource
    except ImportError:
        raise MissingExtraError("redis") from None
    return RedisSource(url, password)


class _Import:
    """An import and its counts.

    Args:
        prefix: Beginning of all keys in the bucket.
        is_replacing: Whether values that the bucket has are replaced.
    """

    def __init__(self, prefix: str, *, is_replacing: bool) -> None:
        self._prefix = prefix
        self._is_replacing = is_replacing
        self._kinds = Counter[str]()
        """Number of keys put, by the kind of their value."""
        self._kept = 0
        self._gone = 0
        self.refused = 0
        self._has_ended = False

    async def run(self, source: RedisSource, bucket: OpenBucket, pattern: str) -> None:
        """Copy all keys.

        Raises:
            CommandError, errors.StoreError: Redis or NATS cannot be reached. Keys are whole or not there at all.
        """
        total = None if pattern else await source.size()
        with _progress(total) as show:
            async for batch in source.batches(pattern):
                for start in range(0, len(batch), _AT_ONCE):
                    await asyncio.gather(*(self._copy(bucket, read) for read in batch[start : start + _AT_ONCE]))
                show(self._seen)
        self._has_ended = True

    @property
    def _seen(self) -> int:
        return sum(self._kinds.values()) + self._kept + self._gone + self.refused

    async def _copy(self, bucket: OpenBucket, read: Read) -> None:
        if read.value is None:
            if read.reason:
                self._refuse(read.key, read.reason)
            else:
                self._gone += 1
            return
        try:
            bucket_key = encode_key(read.key, self._prefix)
            is_put = await bucket.put_value(bucket_key, read.value, read.expires_ms, is_forced=self._is_replacing)
        except _REFUSALS as error:
            self._refuse(read.key, str(error))
            return
        if is_put:
            self._kinds[read.value.kind.value] += 1
        else:
            self._kept += 1

    def _refuse(self, key: str, reason: str) -> None:
        self.refused += 1
        if self.refused <= _MOST_REASONS:
            write_line(stderr_console(), f"not imported: {cut(repr(key), _SHOWN_CHARACTERS)}: {reason}", "yellow")

    def report(self, bucket: str, *, is_json: bool) -> None:
        """Print the counts, also of an import that has not come to its end."""
        put = sum(self._kinds.values())
        if is_json:
            counts = {"bucket": bucket, "put": put, "kept": self._kept, "gone": self._gone, "refused": self.refused}
            print_object({**counts, "kinds": dict(self._kinds), "complete": self._has_ended})
            return
        if not self._has_ended and not self._seen:
            return  # the error alone tells that nothing was done
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._kinds.items()))
        parts = [f"{put} keys put" + (f" ({kinds})" if kinds else "")]
        parts += [f"{self._kept} kept as they were"] if self._kept else []
        parts += [f"{self._gone} gone from Redis meanwhile"] if self._gone else []
        parts += [f"{self.refused} not imported"] if self.refused else []
        print_line(f"{bucket}: {'; '.join(parts)}" + ("" if self._has_ended else "; not complete"))


@contextlib.contextmanager
def _progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """Show progress on standard error: a bar on a terminal, else a line now and then."""
    console = stderr_console()
    if not console.is_terminal:
        yield _Lines(total).show
        return
    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TextColumn("keys"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("import", total=total)
        yield lambda seen: progress.update(task, completed=seen)


class _Lines:
    """Progress as lines."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._shown_at = time.monotonic()

    def show(self, seen: int) -> None:
        now = time.monotonic()
        if now - self._shown_at >= _LINE_SECONDS:
            self._shown_at = now
            of_total = f" of {self._total}" if self._total is not None else ""
            write_line(stderr_console(), f"{seen}{of_total} keys")
