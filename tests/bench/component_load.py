"""The load of a component: a process of its own that calls `get` over wRPC. See `load_generator`, whose lines it speaks."""

from __future__ import annotations

import sys
import time

import msgspec
import uvloop

from contracts import wrpc
from contracts.codec import MalformedError
from contracts.wasmcloud1 import LINK_HEADER, SOURCE_HEADER
from provider.nats.frames import header_block
from tests.bench.component_pipeline import ComponentPipeline
from tests.bench.load_generator import measurement, next_line, write_json
from tests.bench.pipeline import connect_as
from tests.bench.workloads import KEYS

_VALUE = b"twenty characters :)"


class ComponentJob(msgspec.Struct, frozen=True, kw_only=True):
    """Gets of many keys in turn, as in the workload of signed ones."""

    nats_url: str
    lattice: str
    provider_id: str
    component_id: str
    count: int
    in_flight: int

    def subject(self, type_: type[wrpc.WrpcCall]) -> str:
        return wrpc.invocation_subject(self.lattice, self.provider_id, type_)


async def _work(job: ComponentJob) -> None:
    header = header_block((LINK_HEADER, b"default"), (SOURCE_HEADER, job.component_id.encode()))
    keys = [f"bench.get.{number}" for number in range(KEYS)]
    puts = [wrpc.encode_parameters(wrpc.Set("default", key, _VALUE)) for key in keys]
    gets = [wrpc.encode_parameters(wrpc.Get("default", keys[number % KEYS])) for number in range(job.count)]
    pipeline = await connect_as(ComponentPipeline, job.nats_url)
    await pipeline.run(job.subject(wrpc.Set), header, puts, job.in_flight)
    write_json({"ready": True})
    await next_line()
    cpu, started = time.process_time(), time.perf_counter()
    latency_ns, results = await pipeline.run(job.subject(wrpc.Get), header, gets, job.in_flight)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    pipeline.close()
    wrong = [fault for result in results if (fault := _fault(result))]
    write_json(measurement(latency_ns, seconds, cpu, wrong))


def _fault(result: bytes | None) -> str:
    """Return the reason why a result is not the value that was put; "" if it is."""
    if result is None:
        return "no answer"
    try:
        value = wrpc.decode_result(wrpc.Get, result)
    except MalformedError as error:
        return str(error)
    return "" if value == _VALUE else f"answered {str(value)[:60]}"


if __name__ == "__main__":
    uvloop.run(_work(msgspec.json.decode(sys.stdin.buffer.readline(), type=ComponentJob)))
