"""Gets at a steady pace and the latency of each. A process of its own that runs beside another measurement.

It reads a job like the load generator; `count` is the most that it sends. It writes `{"ready": true}`, sends after a second
line on standard input, and after a third it ends and writes its samples.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from tests.bench.load_generator import Job, next_line, prepared, read_answers, run_child, write_json

PAUSE_SECONDS = 0.002
"""500 Gets a second: enough samples for a p99 of a join, and little load."""


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """The time of each Get by `time.perf_counter_ns`, a clock that all processes share, and its latency in nanoseconds."""

    sent_ns: list[int]
    latency_ns: list[int]


async def _work(job: Job) -> None:
    async with prepared(job) as (pipeline, requests, payloads):
        stop = asyncio.Event()
        stopping = asyncio.ensure_future(next_line())
        stopping.add_done_callback(lambda _: stop.set())
        sent_ns, latency_ns, answers = await pipeline.run_paced(job.link.subjects.rpc, payloads, PAUSE_SECONDS, stop)
        await stopping
    errors, _ = read_answers(answers, requests[: len(answers)])
    if errors:
        write_json({"failed": f"{len(errors)} of {len(answers)} Gets failed: {errors[0]}"})
        sys.exit(1)
    write_json(Samples(sent_ns=sent_ns, latency_ns=latency_ns))


if __name__ == "__main__":
    run_child(_work)
