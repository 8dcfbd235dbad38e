import os
import stat
from pathlib import Path

import pytest

from provider.commands import connection_file
from provider.commands.dev_lattice.start import make_identity
from provider.commands.errors import LatticeTakenError, NoLatticeError


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_call_finds_the_running_lattice() -> None:
    link = make_identity("default", "default")
    with connection_file.announced(link, "nats://127.0.0.1:4222"):
        found = connection_file.find()
    assert found.identity == link
    assert found.nats_url == "nats://127.0.0.1:4222"


def test_only_its_user_can_read_the_file() -> None:
    with connection_file.announced(make_identity("default", "default"), "nats://127.0.0.1:4222") as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("is_there", [True, False], ids=["to a folder", "to nowhere"])
def test_a_link_in_place_of_the_folder_is_not_followed(runtime_folder: Path, is_there: bool) -> None:
    target = runtime_folder / "private"
    if is_there:
        target.mkdir(mode=0o755)
    (runtime_folder / "keyvalue-nats").symlink_to(target)
    with pytest.raises(NoLatticeError, match="is a link"):
        connection_file.folder()
    assert target.exists() is is_there
    if is_there:
        assert stat.S_IMODE(target.stat().st_mode) == 0o755
        assert list(target.iterdir()) == []


def test_a_folder_of_another_user_is_not_used(runtime_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection_file.folder()
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(NoLatticeError, match="another user"):
        connection_file.folder()


def test_the_seed_is_never_shown() -> None:
    link = make_identity("default", "default")
    with connection_file.announced(link, "nats://127.0.0.1:4222"):
        assert link.cluster_seed.reveal() not in repr(connection_file.find())


def test_no_running_lattice_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(NoLatticeError, match="keyvalue-nats dev"):
        connection_file.find()


def test_a_file_whose_process_is_gone_is_removed(runtime_folder: Path) -> None:
    ended = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(ended, 0)
    with connection_file.announced(make_identity("default", "default"), "nats://127.0.0.1:4222") as path:
        content = path.read_text().replace(f'"pid":{os.getpid()}', f'"pid":{ended}')
        path.write_text(content)
        with pytest.raises(NoLatticeError):
            connection_file.find()
        assert not path.exists()


def test_one_of_several_lattices_is_found_by_its_name() -> None:
    with (
        connection_file.announced(make_identity("one", "default"), "nats://127.0.0.1:1"),
        connection_file.announced(make_identity("two", "default"), "nats://127.0.0.1:2"),
    ):
        assert connection_file.find("one").nats_url == "nats://127.0.0.1:1"
        with pytest.raises(NoLatticeError, match="three"):
            connection_file.find("three")
        assert [running.lattice for running in connection_file.all_running()] == ["two", "one"]


def test_a_lattice_may_have_any_name_that_a_subject_may_have() -> None:
    for name in ("a/b", "x" * 300):
        with (
            connection_file.reserved(name),
            connection_file.announced(make_identity(name, "default"), "nats://127.0.0.1:1"),
        ):
            assert connection_file.find(name).lattice == name


def test_a_name_belongs_to_one_lattice_at_a_time(runtime_folder: Path) -> None:
    taken = pytest.raises(LatticeTakenError, match=rf"'one' is running \(pid {os.getpid()}\).*--lattice")
    with connection_file.reserved("one"), connection_file.reserved("two"), taken, connection_file.reserved("one"):
        pass
    with connection_file.reserved("one"):
        pass
    assert list((runtime_folder / "keyvalue-nats").iterdir()) == []


def test_the_error_names_a_runtime_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc/none")
    with pytest.raises(NoLatticeError, match="/proc/none/keyvalue-nats cannot be made: no such file"):
        connection_file.find()
