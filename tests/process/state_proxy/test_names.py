"""Names of files as the runtime sends them: any printable ASCII, unescaped, and names that no file has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.blackbox.actor_files import ActorFiles
from tests.blackbox.connector_process import ConnectorProcess
from tests.blackbox.nats.nats_buckets import make_bucket
from tests.blackbox.nats.nats_server import NatsServer

_numbers = itertools.count()


@pytest.fixture(scope="module")
def connector(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConnectorProcess]:
    make_bucket(nats_server.url, "names")
    variables = {"NATS_URL": nats_server.url, "NATS_KV_BUCKET": "names", "STATE_PREFIX": "actor"}
    with ConnectorProcess(tmp_path_factory.mktemp("connector"), variables) as started:
        yield started


@pytest.fixture
def key() -> str:
    """A folder that no other test uses."""
    return f"folder_{next(_numbers)}"


ASCII = "".join(map(chr, range(0x21, 0x7F)))


@pytest.mark.parametrize(
    "name",
    ["a%41", "https%3A%2F%2Fhost%2Fpath", "u+v@x", "a&b", "a=b&delimiter=-", "a?b", "a#b", "a;b", "100%", ".hidden", "=41", ASCII],
)  # fmt: skip
def test_a_name_is_taken_literally(connector: ConnectorProcess, key: str, name: str) -> None:
    files, folder = ActorFiles(connector), f"{key}/{name}/"
    file = folder + name.replace("/", "")
    for similar in ("aA", "a", "100", "https://host/path"):
        files.write(f"{key}/{similar}", b"another")
    files.write(file, b"value")
    assert files.open(file).read() == b"value"
    assert files.size(file) == 5
    assert files.is_folder(folder.removesuffix("/"))
    listed = files.names(folder)
    assert listed == [file.removeprefix(folder)]
    assert files.open(folder + listed[0]).read() == b"value"
    files.set_attribute(file, "ttl", "100")
    assert files.attributes(file) == ["ttl", "version"]
    assert 90 < int(files.attribute(file, "ttl")) <= 100
    files.remove(file)
    assert not files.exists(file)


def test_the_mount_and_folders_can_neither_be_removed_nor_have_attributes(
    connector: ConnectorProcess, key: str
) -> None:
    files = ActorFiles(connector)
    files.write(f"{key}/file", b"value")
    assert files.is_folder("")
    for name in ("", key, f"{key}/"):
        for ask in (files.remove, files.attributes, lambda name: files.attribute(name, "ttl")):
            with pytest.raises(FileNotFoundError):
                ask(name)
    with pytest.raises(FileNotFoundError):
        files.write("", b"value")
    assert files.names(f"{key}/") == ["file"]


@pytest.mark.parametrize("value", ["0", " 0 "])
def test_a_ttl_of_0_removes_the_file(connector: ConnectorProcess, key: str, value: str) -> None:
    files = ActorFiles(connector)
    with pytest.raises(FileNotFoundError):
        files.set_attribute(key, "ttl", value)
    files.write(key, b"value")
    files.set_attribute(key, "ttl", " 100 ")
    assert 90 < int(files.attribute(key, "ttl")) <= 100
    files.set_attribute(key, "ttl", value)
    assert not files.exists(key)
    assert key not in files.names()
