"""A minimal caller over wRPC that keeps a number of calls in flight, as `pipeline` does for requests.

It answers each handshake with the end of the parameters, as hosts from 1.1 do, and takes the end of a result as the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from tests.bench.pipeline import Connection

_CRLF = b"\r\n"
_RESULTS = b".results"


class ComponentPipeline(Connection):
    """A connection. `connect` of `pipeline` makes it, and `run` may be called many times."""

    def __init__(self, connect_line: bytes) -> None:
        super().__init__(connect_line, b">")
        self._frames: list[bytes] = []
        self._sent_ns: list[int] = []
        self._latency_ns: list[int] = []
        self._results: list[bytes | None] = []
        self._next = 0

    async def run(
        self, subject: str, header: bytes, payloads: Sequence[bytes], in_flight: int
    ) -> tuple[list[int], list[bytes | None]]:
        """Make a call with each of the encoded parameters, `in_flight` at a time.

        Returns:
            The latencies in nanoseconds, and the results; `None` for a missing one.
        """
        start = b"HPUB %b %b" % (subject.encode(), self._inbox)
        self._frames = [
            b"%b%d %d %d\r\n%b%b\r\n" % (start, number, len(header), len(header) + len(payload), header, payload)
            for number, payload in enumerate(payloads)
        ]
        self._sent_ns, self._latency_ns = [0] * len(payloads), [0] * len(payloads)
        self._results = [None] * len(payloads)
        self._next, self._left = 0, len(payloads)
        self._done = asyncio.get_running_loop().create_future()
        self._send(in_flight, [])
        await self._until_done()
        return self._latency_ns, self._results

    def data_received(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        now_ns = time.perf_counter_ns()
        position = ended = 0
        ends: list[bytes] = []
        while (end := buffer.find(_CRLF, position)) >= 0:
            if buffer[position : position + 4] != b"MSG ":
                self._control(buffer[position:end])
                position = end + 2
                continue
            parts = buffer[position:end].split(b" ")
            stop = end + 2 + int(parts[-1])
            if len(buffer) < stop + 2:
                break
            name = parts[1][len(self._inbox) :]
            position = stop + 2
            if not name.endswith(_RESULTS):
                ends.append(b"PUB %b.params 0\r\n\r\n" % parts[3])
                continue
            number = int(name[: -len(_RESULTS)])
            if stop > end + 2:
                self._results[number] = buffer[end + 2 : stop]
            else:
                self._latency_ns[number] = now_ns - self._sent_ns[number]
                ended += 1
        self._rest = buffer[position:]
        self._left -= ended
        self._send(ended, ends)
        if self._left == 0 and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _send(self, count: int, ends: list[bytes]) -> None:
        """Send the ends of parameters, and so many further calls."""
        first, last = self._next, min(self._next + count, len(self._frames))
        now_ns = time.perf_counter_ns()
        for number in range(first, last):
            self._sent_ns[number] = now_ns
        self._next = last
        frames = [*ends, *self._frames[first:last]]
        if frames:
            self._write(b"".join(frames))
