"""The end of a provider: on its host's request, on a signal, with its host. Every call is answered before."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats.errors
import pytest

from tests.blackbox.host_families import HARNESS, OTP, RUST, HostFamily
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import PROJECT_FOLDER, PROVIDER_COMMAND, CallFailedError, LatticeHost
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.proc import catches
from tests.blackbox.waiting import eventually
from tests.process.conftest import Hosts


def is_answer(outcome: Any) -> bool:
    """Return whether a call was answered, with success or an error. Without responders, a host tells the actor at once."""
    return not isinstance(outcome, BaseException) or isinstance(
        outcome, CallFailedError | nats.errors.NoRespondersError
    )


async def test_the_host_s_shutdown_is_acknowledged_in_time(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    assert await host.shutdown() < host.family.shutdown_seconds
    assert await host.provider.exited() == 0
    assert "Traceback" not in host.provider.stderr


async def test_a_shutdown_of_another_host_is_ignored(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    inbox = host.client.new_inbox()
    acknowledgements = await host.client.subscribe(inbox)
    others = [
        json.dumps({"host_id": KeyPair.generate("N").public}).encode(),
        json.dumps({"host_id": ""}).encode(),
        json.dumps({"host_id": None}).encode(),
        json.dumps({"host_id": [host.family.shutdown_host_id(host.who)]}).encode(),
        json.dumps({}).encode(),
        json.dumps(host.family.shutdown_host_id(host.who)).encode(),
        b"",
        b"\xff",
        b"[" * 10_000,
    ]
    for payload in others:
        await host.client.publish(f"{host.subject}.shutdown", payload, reply=inbox)
        await host.set(actor, "k", "v")
    ours = json.dumps({"host_id": host.family.shutdown_host_id(host.who)}).encode()
    await host.client.publish(f"{host.subject}.shutdown", ours)  # a host waits for the acknowledgement
    await host.set(actor, "k", "v")
    assert (await host.health()).is_healthy
    await host.shutdown()
    assert await host.provider.exited() == 0
    await host.client.flush()
    assert acknowledgements.pending_msgs == 0


async def test_every_call_in_flight_at_shutdown_is_answered_before_the_acknowledgement(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.increment(actor, "warm")
    calls = [asyncio.ensure_future(host.increment(actor, f"k{number % 7}")) for number in range(200)]
    await asyncio.sleep(0)
    seconds = await host.shutdown()
    assert seconds < host.family.shutdown_seconds
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(map(is_answer, outcomes)), [outcome for outcome in outcomes if not is_answer(outcome)][:3]
    assert sum(isinstance(outcome, int) for outcome in outcomes) > 0
    assert await host.provider.exited() == 0


async def test_calls_that_wait_for_a_frozen_store_do_not_delay_the_acknowledgement(
    host: LatticeHost, own_nats_server: NatsServer
) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"URL": own_nats_server.url})])
    await host.set(actor, "k", "v")
    own_nats_server.freeze()
    calls = [
        *(asyncio.ensure_future(host.error(actor, "Increment", {"key": f"n{n}", "value": 1})) for n in range(5)),
        *(asyncio.ensure_future(host.error(actor, "Get", f"n{n}")) for n in range(5)),
    ]
    await asyncio.sleep(0)
    assert await host.shutdown() < host.family.shutdown_seconds
    for error in await asyncio.gather(*calls):
        assert "unknown" in error or "nothing" in error or "shutting down" in error
    assert await host.provider.exited() == 0


@pytest.mark.parametrize("way", ["shutdown", "SIGTERM"])
async def test_calls_that_arrive_during_the_shutdown_are_answered(host: LatticeHost, way: str) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    host.provider.freeze()
    if way == "shutdown":
        stopping = asyncio.ensure_future(host.shutdown(15))
    else:
        host.provider.signal(signal.SIGTERM)
        stopping = asyncio.ensure_future(asyncio.sleep(0, 0.0))
    # More than one read from the socket returns. The key is too long, so each call is answered with an error.
    calls: list[asyncio.Future[Any]] = []
    for _ in range(20):
        calls.extend(asyncio.ensure_future(host.call(actor, "Get", "k" * 5_000, 15)) for _ in range(10))
        await asyncio.sleep(0)
        await host.client.flush()
    host.provider.signal(signal.SIGCONT)
    await stopping
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [outcome for outcome in outcomes if not is_answer(outcome)] == []
    assert await host.provider.exited() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_provider_cleanly(host: LatticeHost, number: signal.Signals) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    host.provider.signal(number)
    assert await host.provider.exited() == 0
    assert "Traceback" not in host.provider.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_provider_cleanly_while_it_waits_for_host_data(
    hosts: Hosts, number: signal.Signals
) -> None:
    host = await hosts(OTP)
    host.launch(b"")

    # The last of its handlers. For SIGINT, Python has a handler of its own before.
    await eventually(lambda: catches(host.provider.pid, signal.SIGTERM), "its handlers")
    host.provider.signal(number)
    assert await host.provider.exited() == 0
    assert host.provider.stderr == ""


async def test_a_signal_lets_the_calls_in_flight_finish(host: LatticeHost, own_nats_server: NatsServer) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"URL": own_nats_server.url})])
    await host.set(actor, "k", "v")
    own_nats_server.freeze()
    calls = [asyncio.ensure_future(host.increment(actor, f"k{number}")) for number in range(20)]
    await host.client.flush()

    async def are_in_flight() -> bool:
        """Wait for the answer to a health request that follows them on the same connection: they have been received."""
        await host.health()
        return True

    await eventually(are_in_flight, "calls taken on")
    host.provider.signal(signal.SIGTERM)
    await eventually(lambda: "stopping" in host.provider.stderr, "the beginning of the end")
    own_nats_server.thaw()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(map(is_answer, outcomes)), outcomes
    assert await host.provider.exited() == 0


async def test_the_end_of_standard_input_ends_the_provider_under_otp(hosts: Hosts) -> None:
    host = await hosts(OTP)
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    host.provider.close_stdin()
    assert await host.provider.exited() == 0


@pytest.mark.parametrize("family", [RUST, HARNESS], ids=["rust", "harness"], indirect=True)
async def test_other_hosts_may_close_standard_input(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    for number in range(20):
        await host.set(actor, "k", str(number))
    assert host.provider.exit_code is None
    assert await host.get(actor, "k") == "19"


async def test_standard_output_stays_open_and_empty_while_the_provider_runs(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    assert host.provider.is_stdout_open
    await host.shutdown()
    await host.provider.exited()
    assert not host.provider.is_stdout_open


PARENT = """
import os, subprocess, sys
data = sys.stdin.buffer.readline()
read, write = os.pipe()
child = subprocess.Popen(sys.argv[1:], stdin=read, stdout=subprocess.DEVNULL)
os.write(write, data)
if os.environ["KEEPS_STDIN"]:
    os.set_inheritable(write, True)
else:
    os.close(write)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start parent processes, which are killed at the end of the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()


async def test_the_death_of_the_host_s_process_ends_the_provider(
    host: LatticeHost, family: HostFamily, processes: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    actor = host.actor()
    with (tmp_path / "stderr").open("wb") as stderr:
        parent = subprocess.Popen(  # noqa: ASYNC220  (returns at once)
            [sys.executable, "-c", PARENT, *PROVIDER_COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=family.environment() | {"KEEPS_STDIN": "1" if family.keeps_stdin_open else ""},
            cwd=PROJECT_FOLDER,
        )
    processes.append(parent)
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(family.encode_line(host.host_data([host.link(actor)])))
    parent.stdin.flush()
    child = os.pidfd_open(int(await asyncio.to_thread(parent.stdout.readline)))
    try:

        async def is_served() -> bool:
            try:
                await host.set(actor, "k", "v")
            except nats.errors.NoRespondersError:
                return False
            return True

        await eventually(is_served, "the provider's first answer")
        parent.kill()
        await eventually(lambda: select.select([child], [], [], 0)[0], "the end of the provider", 5)
    finally:
        if not select.select([child], [], [], 0)[0]:
            signal.pidfd_send_signal(child, signal.SIGKILL)
        os.close(child)


async def test_a_killed_provider_leaves_nothing_that_prevents_the_next_from_starting(
    host: LatticeHost, hosts: Hosts
) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    host.provider.signal(signal.SIGKILL)
    await host.provider.exited()
    again = await hosts(host.family, lattice=host.who.lattice, provider_key=host.who.provider, cluster=host.who.cluster)
    await again.start_provider([again.link(actor)])
    assert await again.get(actor, "k") == "v"
