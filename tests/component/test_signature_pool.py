"""Helper processes that check signatures: real ones, also killed, frozen, writing garbage and impossible to start."""

from __future__ import annotations

import asyncio
import itertools
import marshal
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ed25519_zebra import ed_verify
from nacl.signing import SigningKey

from provider import errors
from provider.lattice.signature_processes import pool as pool_module
from provider.lattice.signature_processes.packets import SignedBytes
from provider.lattice.signature_processes.pool import SignaturePool
from provider.lattice.signature_processes.process import HelperProcess, HelperProgram
from tests.blackbox.proc import freeze, resident_bytes
from tests.blackbox.waiting import eventually

KEY = SigningKey.generate()
MOST_RESIDENT_BYTES = 25_000_000
GARBAGE = "import os,sys\ns=int(sys.argv[1])\nos.write(s,bytes(6))\nwhile os.read(s,1<<20): os.write(s,b'garbage')"
ENDS_AT_ONCE = "pass"


@dataclass
class Item:
    number: int
    signature: bytes
    signed: bytes
    arrived: float
    size_bytes: int = 1000
    is_signed: bool | errors.InvocationError | None = None


class Served:
    """A pool with real signatures, and the invocations that it has served. Every third signature is not valid."""

    def __init__(self, processes: int) -> None:
        self.pool: SignaturePool[Item] = SignaturePool(processes, self, self.serve)
        self.items: list[Item] = []
        self.arrived = 0
        self.in_place = 0

    def signed_bytes(self, item: Item) -> SignedBytes:
        return bytes(KEY.verify_key), item.signature, item.signed

    def check_signature(self, item: Item) -> None:
        self.in_place += 1
        item.is_signed = ed_verify(item.signature, item.signed, bytes(KEY.verify_key))

    def serve(self, items: list[Item]) -> None:
        self.items += items

    def arrive(self, count: int) -> None:
        fresh = []
        for number in range(self.arrived, self.arrived + count):
            signed = b"token %d" % number
            signature = KEY.sign(signed if number % 3 else b"another").signature
            fresh.append(Item(number, signature, signed, time.monotonic()))
        self.arrived += count
        self.pool.take(fresh)

    def check(self) -> None:
        """Check that all were served once, in order, with the true verdict."""
        assert [item.number for item in self.items] == list(range(self.arrived))
        assert all(item.is_signed is bool(item.number % 3) for item in self.items)

    @property
    def is_done(self) -> bool:
        return len(self.items) == self.arrived

    async def runs(self, count: int) -> None:
        await eventually(lambda: self.pool.state.running == count, "the helpers")

    @property
    def pids(self) -> list[int]:
        return [one.process.pid for one in self.pool._helpers if one.process is not None]


@pytest.fixture(autouse=True)
def _started_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_START_SECONDS", 0.0)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made = Served(2)
    made.pool.start()
    yield made
    made.pool.close()


def descriptors(pid: int) -> list[str]:
    """Return the files that a process has open, in the order of their numbers, without their own numbers."""
    links = sorted(Path(f"/proc/{pid}/fd").iterdir(), key=lambda link: int(link.name))
    return [str(link.readlink()).partition(":")[0] for link in links]


def variables(pid: int) -> set[str]:
    """Return the names of the environment variables of a process."""
    return {line.partition("=")[0] for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if line}


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_helpers_check_what_waits_have_little_memory_and_inherit_nothing(served: Served) -> None:
    inherited, kept = os.pipe()
    os.set_inheritable(kept, True)
    await served.runs(2)
    served.arrive(100)
    await eventually(lambda: served.is_done, "the answers")
    served.check()
    served.arrive(1)
    assert (served.is_done, served.in_place) == (True, 1), "one that came alone is checked in place"
    assert served.pool.state.checked == 100
    for pid in served.pids:
        assert resident_bytes(pid) < MOST_RESIDENT_BYTES
        assert descriptors(pid) == ["/dev/null"] * 3 + ["socket"]
        assert variables(pid) <= {"LD_LIBRARY_PATH"}
        assert os.getpgid(pid) == pid, "Ctrl-C at a terminal is not for it"
    os.close(inherited)
    os.close(kept)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_helpers_that_are_frozen_or_killed_are_replaced_and_everything_is_served(
    served: Served, number: signal.Signals
) -> None:
    await served.runs(2)
    before = served.pids
    for pid in before:
        if number is signal.SIGSTOP:
            freeze(pid)
        else:
            os.kill(pid, number)
    served.arrive(200)
    await eventually(lambda: served.is_done, "the answers", 2)
    served.check()
    assert served.pool.state.checked == 0
    await eventually(lambda: all(map(is_gone, before)), "the end of the helpers, without zombies")
    await served.runs(2)
    assert served.pool.state.restarts == 2
    served.arrive(50)
    await eventually(lambda: served.is_done, "the answers")
    served.check()
    assert served.pool.state.checked == 50


async def test_closing_serves_what_is_out_ends_the_helpers_and_leaves_checks_in_place(served: Served) -> None:
    await served.runs(2)
    pids = served.pids
    freeze(pids[0])
    served.arrive(100)
    assert not served.is_done
    served.pool.settle()
    served.check()
    served.arrive(100)
    served.pool.close()
    served.check()
    assert all(map(is_gone, pids))
    served.arrive(5)
    served.check()


@pytest.mark.parametrize(
    ("source", "reason"), [(GARBAGE, "something else than an answer"), (ENDS_AT_ONCE, "the helper has ended")]
)
async def test_a_helper_that_does_not_do_its_work_is_ended_and_health_tells(
    source: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_FIRST_PAUSE_SECONDS", 0.01)
    original = HelperProgram.__init__

    def tampered(self: HelperProgram) -> None:
        original(self)
        self.code = marshal.dumps(compile(source, "helper", "exec"))

    monkeypatch.setattr(HelperProgram, "__init__", tampered)
    served = Served(1)
    served.pool.start()
    for _ in itertools.count():
        served.arrive(20)
        await asyncio.sleep(0.005)
        if served.pool.notice:
            break
    assert reason in (served.pool.notice or "")
    await eventually(lambda: served.is_done, "the answers")
    served.check()
    assert served.pool.state.checked == 0
    served.pool.close()


async def test_where_no_process_can_be_started_the_checks_are_made_in_place_and_health_tells(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "frozen_by", "/nonexistent", raising=False)
    monkeypatch.setattr(pool_module, "_FIRST_PAUSE_SECONDS", 0.001)
    served = Served(2)
    served.pool.start()
    await eventually(lambda: served.pool.notice is not None, "the remark")
    assert served.pool.notice == "signature_processes: 0 of 2 run: No such file or directory"
    served.arrive(100)
    served.check()
    served.pool.close()
    assert len([record for record in caplog.records if record.message == "signature_process_failed"]) == 1


async def test_a_helper_that_reads_nothing_never_blocks_the_provider() -> None:
    program: Any = HelperProgram()
    program.code = marshal.dumps(compile("import time; time.sleep(60)", "helper", "exec"))
    process = HelperProcess(program)
    program.close()
    packets = 0
    while process.send(bytes(60_000)):
        packets += 1
    assert packets < 1000
    process.end()
    process.wait(5)
    assert process.is_reaped()


async def test_without_helpers_everything_is_served_in_the_turn_in_which_it_arrived() -> None:
    served = Served(0)
    served.pool.start()
    served.arrive(30)
    served.check()
    assert (served.pool.state.wanted, served.pool.notice) == (0, None)
    served.pool.close()
