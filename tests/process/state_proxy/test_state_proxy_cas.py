"""Two connectors on one bucket: a write based on an old revision is a conflict, and no update is lost."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest
from nats.js.kv import KeyValue

from tests.blackbox.actor_files import ActorFiles, FileConflictError
from tests.blackbox.connector_process import ConnectorProcess
from tests.blackbox.nats.nats_buckets import make_bucket, with_bucket
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually_blocking

BUCKET = "shared"
CYCLES = 60

_numbers = itertools.count()
Pair = tuple[ActorFiles, ActorFiles]


@pytest.fixture(scope="module")
def connectors(
    nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ConnectorProcess, ConnectorProcess]]:
    make_bucket(nats_server.url, BUCKET)
    variables = {"NATS_URL": nats_server.url, "NATS_KV_BUCKET": BUCKET}
    folder = tmp_path_factory.mktemp("connectors")
    with ConnectorProcess(folder / "1", variables) as one, ConnectorProcess(folder / "2", variables) as other:
        yield one, other


@pytest.fixture
def pair(connectors: tuple[ConnectorProcess, ConnectorProcess]) -> Pair:
    return ActorFiles(connectors[0]), ActorFiles(connectors[1])


@pytest.fixture
def name() -> str:
    """A file that no other test uses."""
    return f"file_{next(_numbers)}.txt"


def test_after_a_conflict_every_write_is_refused_until_the_file_is_read(pair: Pair, name: str) -> None:
    one, other = pair
    one.write(name, b"0")
    assert one.open(name).read() == b"0"
    other.open(name)
    other.write(name, b"1")
    for _ in range(3):
        with pytest.raises(FileConflictError, match="changed since it was read"):
            one.write(name, b"2")
        assert one.size(name) == 1
        assert name in one.names()
    assert one.open(name).read() == b"1"
    one.write(name, b"2")
    assert other.open(name).read() == b"2"


def test_a_write_of_a_file_that_was_neither_read_nor_written_overwrites(pair: Pair, name: str) -> None:
    one, other = pair
    one.write(name, b"0")
    other.write(name, b"1")
    assert one.open(name).read() == b"1"


@pytest.mark.parametrize("is_exclusive", [False, True], ids=["plain", "exclusive"])
def test_a_clients_own_write_is_remembered(pair: Pair, name: str, is_exclusive: bool) -> None:
    one, other = pair
    one.write(name, b"0", is_exclusive=is_exclusive)
    other.write(name, b"1")
    for _ in range(2):
        with pytest.raises(FileConflictError):
            one.write(name, b"2")
    assert one.open(name).read() == b"1"


@pytest.mark.slow
def test_a_client_that_only_writes_is_not_locked_out_for_ever(pair: Pair, name: str) -> None:
    one, other = pair
    one.write(name, b"0")
    other.write(name, b"1")

    def is_written() -> bool:
        try:
            one.write(name, b"2")
        except FileConflictError:
            return False
        return True

    assert not is_written()
    eventually_blocking(is_written, "a write of the client that never reads", 45, poll_seconds=1)


def test_consecutive_writes_after_one_read_do_not_conflict(pair: Pair, name: str) -> None:
    one, other = pair
    one.write(name, b"0")
    one.open(name)
    for number in range(3):
        one.write(name, b"%d" % number)
    other.write(name, b"theirs")
    with pytest.raises(FileConflictError):
        one.write(name, b"mine")


@pytest.mark.parametrize("is_looked_up", [False, True], ids=["read", "looked up"])
def test_absence_is_not_remembered(pair: Pair, name: str, is_looked_up: bool) -> None:
    one, other = pair
    with pytest.raises(FileNotFoundError):
        one.size(name) if is_looked_up else one.open(name)
    other.write(name, b"theirs")
    one.write(name, b"mine")
    assert other.open(name).read() == b"mine"


def test_a_lookup_neither_remembers_nor_forgets(pair: Pair, name: str) -> None:
    one, other = pair
    other.write(name, b"0")
    assert one.exists(name)
    other.write(name, b"1")
    one.write(name, b"2")
    other.open(name)
    other.write(name, b"3")
    assert one.exists(name)
    with pytest.raises(FileConflictError):
        one.write(name, b"4")


@pytest.mark.parametrize("is_seen_absent", [False, True])
def test_a_write_conflicts_once_if_the_file_was_removed_since_it_was_read(
    pair: Pair, name: str, is_seen_absent: bool
) -> None:
    one, other = pair
    one.write(name, b"0")
    other.remove(name)
    if is_seen_absent:
        with pytest.raises(FileNotFoundError):
            one.open(name)
    with pytest.raises(FileConflictError):
        one.write(name, b"1")
    one.write(name, b"1")
    assert other.open(name).read() == b"1"


def test_a_removal_of_the_clients_own_forgets_the_file(pair: Pair, name: str) -> None:
    one, other = pair
    one.write(name, b"0")
    one.remove(name)
    other.write(name, b"theirs")
    one.write(name, b"mine")
    assert other.open(name).read() == b"mine"


def test_a_write_by_any_other_client_causes_a_conflict(pair: Pair, nats_server: NatsServer, name: str) -> None:
    one, _ = pair
    one.write(name, b"0")
    one.open(name)
    with_bucket(nats_server.url, BUCKET, lambda bucket: bucket.put(name, b"0"))
    with pytest.raises(FileConflictError):
        one.write(name, b"1")


def test_a_failed_exclusive_create_changes_nothing(pair: Pair, name: str) -> None:
    one, other = pair
    other.write(name, b"theirs")
    with pytest.raises(FileConflictError, match="exists"):
        one.write(name, b"mine", is_exclusive=True)
    one.write(name, b"mine")
    other.open(name)
    other.write(name, b"theirs")
    with pytest.raises(FileConflictError, match="exists"):
        one.write(name, b"mine", is_exclusive=True)
    with pytest.raises(FileConflictError, match="changed"):
        one.write(name, b"mine")


def test_all_connections_to_a_connector_share_the_revisions_read(
    connectors: tuple[ConnectorProcess, ConnectorProcess], name: str
) -> None:
    mine, others = connectors[0], ActorFiles(connectors[1])
    others.write(name, b"0")
    with mine.connection() as reading, mine.connection() as writing:
        assert reading.ask("GET", f"/keys/{name}").status == 200
        others.write(name, b"1")
        assert writing.ask("PUT", f"/keys/{name}", b"2").error == (409, "conflict")


@pytest.mark.parametrize("begins_absent", [False, True], ids=["a file", "nothing"])
def test_no_update_of_concurrent_read_and_write_cycles_is_lost(
    pair: Pair, nats_server: NatsServer, name: str, begins_absent: bool
) -> None:
    if not begins_absent:
        pair[0].write(name, b"0")
    barrier = threading.Barrier(2)
    conflicts: list[int] = []

    def count(files: ActorFiles) -> None:
        barrier.wait()
        for _ in range(CYCLES):
            while True:
                mode = "w"
                try:
                    total = int(files.open(name).read())
                except FileNotFoundError:
                    total, mode = 0, "x"
                try:
                    with files.open(name, mode) as file:
                        file.write(b"%d" % (total + 1))
                    break
                except FileConflictError:
                    conflicts.append(total)

    threads = [threading.Thread(target=count, args=(files,)) for files in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def get(bucket: KeyValue) -> bytes | None:
        return (await bucket.get(name)).value

    assert with_bucket(nats_server.url, BUCKET, get) == b"%d" % (2 * CYCLES)
    assert conflicts, "the two never conflicted, so the test has shown nothing"


def test_an_actor_uses_the_connector_like_files(pair: Pair, name: str) -> None:
    files, other = pair
    with pytest.raises(FileNotFoundError):
        files.open(name)
    with files.open(name, "x") as file:
        file.write(b"first ")
        file.write(b"second")
    with pytest.raises(FileExistsError), files.open(name, "x") as file:
        file.write(b"third")
    assert other.open(name).read() == b"first second"
    assert files.size(name) == 12
    assert not files.is_folder(name)
    other.write(f"{name}.d/nested", b"")
    assert files.is_folder(f"{name}.d")
    assert files.names(f"{name}.d/") == ["nested"]
    assert {name, f"{name}.d"} <= set(files.names())
    assert int(files.attribute(name, "version")) > 0
    files.set_attribute(name, "ttl", "100")
    assert 90 < int(other.attribute(name, "ttl")) <= 100
    with pytest.raises(PermissionError):
        files.set_attribute(name, "version", "1")
    with pytest.raises(ValueError, match="no such attribute"):
        files.attribute(name, "owner")
    files.write(name, b"x" * 2_000_000)
    assert files.open(name).read() == b"x" * 2_000_000
    files.remove(name)
    with pytest.raises(FileNotFoundError):
        files.remove(name)
