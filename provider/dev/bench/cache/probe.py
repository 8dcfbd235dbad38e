"""Gets at a steady pace until told to stop, and how long each took: a process of its own, to be run beside something else.

It reads a job as `load` does, of which `count` is the most it sends. It writes `{"ready": true}`; after a second line on
standard input it sends, after a third it ends and writes its samples.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec
import uvloop

from provider.dev.actor import Signer
from provider.dev.bench.load import Job, read_answers, say, serve_before, signed
from provider.dev.bench.pipeline import connect
from provider.dev.bench.workloads import workload

PAUSE_SECONDS = 0.002


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """When each Get was sent, by `time.perf_counter_ns`, which is one for all processes, and nanoseconds to its answer."""

    sent_ns: list[int]
    latency_ns: list[int]


def main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    uvloop.run(_work(job))


async def _work(job: Job) -> None:
    requests = workload(job.workload, job.count, job.tag)
    signer = Signer(job.link)
    pipeline = await connect(job.nats_url)
    try:
        await serve_before(pipeline, job, signer, requests.before)
        payloads = signed(signer, requests.measured)
        say({"ready": True})
        await _line()
        stop = asyncio.Event()
        stopping = asyncio.ensure_future(_line())
        stopping.add_done_callback(lambda _: stop.set())
        sent_ns, latency_ns, answers = await pipeline.run_paced(job.link.subjects.rpc, payloads, PAUSE_SECONDS, stop)
        await stopping
    finally:
        pipeline.close()
    errors, _ = read_answers(answers, requests.measured[: len(answers)])
    if errors:
        say({"failed": f"{len(errors)} of {len(answers)} Gets failed: {errors[0]}"})
        sys.exit(1)
    say(Samples(sent_ns=sent_ns, latency_ns=latency_ns))


async def _line() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.readline)


if __name__ == "__main__":
    main()
