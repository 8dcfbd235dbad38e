"""Gets at a steady pace until told to stop, and how long each took: a process of its own, to be run beside something else.

It reads a job as `load` does, of which `count` is the most it sends. It writes `{"ready": true}`; after a second line on
standard input it sends, after a third it ends and writes its samples.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from tests.bench.load import Job, next_line, prepared, read_answers, run_job, say

PAUSE_SECONDS = 0.002


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """When each Get was sent, by `time.perf_counter_ns`, which is one for all processes, and nanoseconds to its answer."""

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
        say({"failed": f"{len(errors)} of {len(answers)} Gets failed: {errors[0]}"})
        sys.exit(1)
    say(Samples(sent_ns=sent_ns, latency_ns=latency_ns))


if __name__ == "__main__":
    run_job(_work)
