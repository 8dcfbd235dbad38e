"""The start time of the provider, the memory of many links, and its growth under load."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from statistics import median

from contracts import keyvalue
from contracts.nkeys import KeyKind
from provider.commands.dev_lattice.actor import Actor
from provider.commands.dev_lattice.identity import DevIdentity
from provider.commands.dev_lattice.lattice_host import HostSettings
from provider.commands.dev_lattice.provider_process import ProviderProcess
from provider.commands.dev_lattice.raw_bucket import RawBucket
from provider.commands.dev_lattice.start import DevLattice, link_definition
from provider.commands.errors import CommandError
from provider.commands.minting import make_public_key
from tests.bench.jobs import Progress, make_job, run_job
from tests.bench.report import Size
from tests.bench.workloads import WorkloadName
from tests.blackbox.proc import resident_bytes

MEBIBYTE = 2**20
LINKS = 1000
WARM_UP_INVOCATIONS = 10_000
"""Invocations before the measurement of growth. They fill the caches and the allocator's free lists."""

INVOCATIONS = 100_000
_INVOCATIONS_PER_JOB = 20_000
"""Invocations that a load generator signs and keeps in memory at a time."""

_STARTS = 3
"""Number of starts, of which the median counts."""

_IMPORTS = "import nats, nacl.signing, msgspec"
"""The imports that no Python provider of this kind can do without: the yardstick of a start."""

_POLL_SECONDS = 0.002
_PATIENCE_SECONDS = 60.0
_IN_FLIGHT = 64


async def measure_size(lattice: DevLattice, progress: Progress) -> Size:
    """Measure on a lattice without providers, and start them here.

    Raises:
        CommandError: A provider does not start, or a link does not open.
    """
    starts, imports, python, helps, gets = [], [], [], [], []
    for number in range(_STARTS):
        progress("start to first answer", number, _STARTS)
        imports.append(await _seconds("-c", _IMPORTS))
        starts.append(await _start_seconds(lattice))
        python.append(await _seconds("-c", "pass"))
        helps.append(await _seconds("-m", "provider", "--help"))
        get = ("kv", "get", lattice.settings.bucket, "bench", "--nats", lattice.nats_url)
        gets.append(await _seconds("-m", "provider", *get))
    progress("start to first answer", _STARTS, _STARTS)
    links = [replace(lattice.identity, actor_id=make_public_key(KeyKind.MODULE)) for _ in range(LINKS)]
    bucket = f"bench-links-{time.time_ns()}"
    settings = _host_settings(lattice, links, {"BUCKET": bucket})
    async with ProviderProcess(settings.host_data()) as provider:
        await _all_answered(lattice, links, progress)
        linked = resident_bytes(provider.pid) / MEBIBYTE
        await _load(lattice, links[0], provider, WARM_UP_INVOCATIONS, progress)
        warm = resident_bytes(provider.pid) / MEBIBYTE
        for _ in range(INVOCATIONS // _INVOCATIONS_PER_JOB):
            await _load(lattice, links[0], provider, _INVOCATIONS_PER_JOB, progress)
        grown = resident_bytes(provider.pid) / MEBIBYTE - warm
    for used in (bucket, lattice.settings.bucket):
        await RawBucket(lattice.connection, used).delete()
    return Size(
        start_seconds=median(starts),
        imports_seconds=median(imports),
        python_seconds=median(python),
        help_seconds=median(helps),
        kv_get_seconds=median(gets),
        links=LINKS,
        linked_megabytes=linked,
        grown_megabytes=grown,
        invocations=INVOCATIONS,
    )


async def _seconds(*arguments: str) -> float:
    """Run Python with arguments and return the time that it takes, whatever it returns: a key without a value is as good."""
    started = time.perf_counter()
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=nowhere, stderr=nowhere)
    await process.wait()
    return time.perf_counter() - started


async def _start_seconds(lattice: DevLattice) -> float:
    """Start a provider with one link, call it until it answers, and return the seconds since its start."""
    provider = ProviderProcess(_host_settings(lattice, [lattice.identity], lattice.settings.link_values).host_data())
    started = time.perf_counter()
    async with provider:
        await _answered(lattice, lattice.identity)
        return time.perf_counter() - started


def _host_settings(lattice: DevLattice, links: list[DevIdentity], values: dict[str, str]) -> HostSettings:
    return HostSettings(
        identity=lattice.identity,
        nats_url=lattice.nats_url,
        link_definitions=[link_definition(link, values) for link in links],
        log_level="info",
    )


async def _answered(lattice: DevLattice, link: DevIdentity) -> None:
    actor = Actor(lattice.connection, link)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            await actor.call(keyvalue.Get("bench"))
        except CommandError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_POLL_SECONDS)
        else:
            return


async def _all_answered(lattice: DevLattice, links: list[DevIdentity], progress: Progress) -> None:
    """Call every link until it answers."""
    for first in range(0, len(links), _IN_FLIGHT):
        await asyncio.gather(*(_answered(lattice, link) for link in links[first : first + _IN_FLIGHT]))
        progress("links", min(first + _IN_FLIGHT, len(links)), len(links))


async def _load(
    lattice: DevLattice, link: DevIdentity, provider: ProviderProcess, count: int, progress: Progress
) -> None:
    """Send Sets and Gets, half of each."""
    for workload in (WorkloadName.SET, WorkloadName.GET):
        await run_job(make_job(lattice, link, workload, count // 2, _IN_FLIGHT, tag="size"), [provider.pid], progress)
