"""Files that settings name are read without waiting for pipes, devices or stalled file systems."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from provider.nats import files
from provider.nats.files import FileError, in_thread, read_file
from tests.blackbox.waiting import eventually

MEGABYTE = 1024 * 1024


def test_a_regular_file_of_a_mebibyte_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x" * MEGABYTE)
    (tmp_path / "link").symlink_to("file")
    assert read_file(str(tmp_path / "link")) == b"x" * MEGABYTE
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(read_file("~/file")) == MEGABYTE


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("pipe", "not a regular file"),
        ("link-to-pipe", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("/dev/tty", "not a regular file"),
        ("", "not a regular file"),
        ("large", "more than 1048576"),
        ("sparse", "more than 1048576"),
        ("absent", "no such file"),
        ("a\0b", "no such file"),
        ("~nobody-of-this-name/x", "no such file"),
        ("x" * 5000, "name too long"),
    ],
)
def test_an_odd_file_is_refused_at_once_and_not_named(tmp_path: Path, path: str, reason: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link-to-pipe").symlink_to("pipe")
    (tmp_path / "large").write_bytes(b"x" * (MEGABYTE + 1))
    os.truncate(os.open(tmp_path / "sparse", os.O_CREAT | os.O_RDWR), 2**40)
    with pytest.raises(FileError, match=reason) as error:
        read_file(path if path.startswith(("/", "~")) else f"{tmp_path}/{path}")
    assert str(tmp_path) not in str(error.value)


def test_a_file_of_the_kernel_that_has_no_size_is_read_up_to_the_limit() -> None:
    assert b"VmRSS" in read_file("/proc/self/status")


async def test_a_stalled_file_system_costs_a_bounded_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_READ_SECONDS", 0.05)
    monkeypatch.setattr(files, "_MAX_THREADS", 3)
    mount = threading.Event()

    def stalled() -> str:
        mount.wait(30)
        return "read"

    before = threading.active_count()
    for path in ("a", "b", "c"):
        with pytest.raises(FileError, match="in time"):
            await in_thread((path,), stalled)
        with pytest.raises(FileError, match="earlier attempt"):
            await in_thread((path,), stalled)
    with pytest.raises(FileError, match="3 other files"):
        await in_thread(("d",), stalled)
    assert threading.active_count() == before + 3
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "read files")
    mount.set()
    await eventually(lambda: threading.active_count() == before, "the end of the threads")
    monkeypatch.setattr(files, "_READ_SECONDS", 10)
    assert await in_thread(("a",), stalled) == "read"
    assert await in_thread(("d",), stalled) == "read"
