"""The load generator: a process of its own that signs all requests, waits for "go", sends them and reports the result.

It reads a job as one line of JSON on standard input. It writes lines of JSON: `{"signed": N}` while it signs, then
`{"ready": true}`, and after a second line on standard input the measurement.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import msgspec
import uvloop

from contracts import lattice, operations
from contracts.codec import MalformedError
from contracts.keyvalue import Request
from contracts.secret import Secret
from provider.commands.dev_lattice.actor import Signer
from provider.commands.dev_lattice.identity import DevIdentity
from tests.bench.pipeline import Pipeline, connect
from tests.bench.workloads import WorkloadName, workload

_PREPARING_IN_FLIGHT = 64
_PROGRESS_EVERY = 500
"""Signatures per progress message: about a tenth of a second."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The requests to send. With an `echo_subject` they go there, and their answers are not read."""

    nats_url: str
    lattice: str
    host_id: str
    provider_key: str
    actor_id: str
    link_name: str
    cluster_seed: str
    workload: WorkloadName
    count: int
    in_flight: int
    tag: str
    echo_subject: str = ""

    @property
    def link(self) -> DevIdentity:
        seed = Secret(self.cluster_seed)
        return DevIdentity(self.lattice, self.host_id, self.provider_key, self.actor_id, self.link_name, seed)


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a job.

    Attributes:
        own_cpu_seconds: CPU time of the load generator itself during the measurement.
        is_exact: Whether every total of a counter was answered exactly once; `True` for other workloads.
        first_error: Text of the first error, or "".
    """

    count: int
    seconds: float
    p50_us: float
    p99_us: float
    errors: int
    first_error: str
    is_exact: bool
    own_cpu_seconds: float


def measurement(
    latency_ns: list[int], seconds: float, cpu_seconds: float, faults: list[str], *, is_exact: bool = True
) -> Measurement:
    """Return the result of a job from the latency of each call, and the texts of its errors."""
    times = sorted(latency_ns)
    return Measurement(
        count=len(times),
        seconds=seconds,
        p50_us=times[len(times) // 2] / 1000,
        p99_us=times[len(times) * 99 // 100] / 1000,
        errors=len(faults),
        first_error=faults[0] if faults else "",
        is_exact=is_exact,
        own_cpu_seconds=cpu_seconds,
    )


def run_child(work: Callable[[Job], Coroutine[Any, Any, None]]) -> None:
    """Read the job from standard input and call the function that does the work of this process."""
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    uvloop.run(work(job))


@contextlib.asynccontextmanager
async def prepared(job: Job) -> AsyncIterator[tuple[Pipeline, list[Request], list[bytes]]]:
    """Connect, send the preparing requests, sign the measured ones, and wait for "go".

    Yields the connection, the measured requests, and the same as signed invocations.
    """
    requests = workload(job.workload, job.count, job.tag)
    signer = Signer(job.link)
    pipeline = await connect(job.nats_url)
    try:
        if not job.echo_subject:
            await _prepare(pipeline, job, signer, requests.before)
        payloads = _signed(signer, requests.measured)
        write_json({"ready": True})
        await next_line()
        yield pipeline, requests.measured, payloads
    finally:
        pipeline.close()


async def next_line() -> None:
    """Wait for the next line on standard input, which is a signal to go on."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.readline)


async def _work(job: Job) -> None:
    async with prepared(job) as (pipeline, requests, payloads):
        cpu, started = time.process_time(), time.perf_counter()
        latency_ns, answers = await pipeline.run(job.echo_subject or job.link.subjects.rpc, payloads, job.in_flight)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    errors, results = ([], []) if job.echo_subject else read_answers(answers, requests)
    is_exact = job.workload is not WorkloadName.INCREMENT or bool(job.echo_subject) or _each_once(results)
    write_json(measurement(latency_ns, seconds, cpu, errors, is_exact=is_exact))


async def _prepare(pipeline: Pipeline, job: Job, signer: Signer, requests: list[Request]) -> None:
    if not requests:
        return
    _, answers = await pipeline.run(job.link.subjects.rpc, _signed(signer, requests), _PREPARING_IN_FLIGHT)
    errors, _ = read_answers(answers, requests)
    if errors:
        write_json({"failed": f"preparing {job.workload}: {len(errors)} of {len(requests)} failed: {errors[0]}"})
        sys.exit(1)


def _signed(signer: Signer, requests: list[Request]) -> list[bytes]:
    payloads = []
    for number, request in enumerate(requests, 1):
        payloads.append(lattice.encode_invocation(signer.sign(request)))
        if number % _PROGRESS_EVERY == 0:
            write_json({"signed": number})
    return payloads


def read_answers(answers: Sequence[bytes | None], requests: Sequence[Request]) -> tuple[list[str], list[Any]]:
    """Decode all answers, and return the errors among them and the results."""
    errors: list[str] = []
    results: list[Any] = []
    for answer, request in zip(answers, requests, strict=True):
        if answer is None or answer == b"":
            errors.append("no answer" if answer is None else "no provider serves the link")
            continue
        response = lattice.decode_invocation_response(answer)
        if isinstance(response.error, str):
            errors.append(response.error)
            continue
        try:
            results.append(operations.decode_response(type(request), response.msg))
        except MalformedError as error:
            errors.append(str(error))
    return errors, results


def _each_once(totals: list[int]) -> bool:
    return sorted(totals) == list(range(1, len(totals) + 1))


def write_json(message: Any) -> None:
    """Write an object as a line to standard output."""
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    run_child(_work)
