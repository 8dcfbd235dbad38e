import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from provider.commands.par import bootstrap
from provider.commands.par.bootstrap import Build, UnpackError, is_own, measure, unpacked

CHECKSUM = 561775529
BUILD = Build(f"0123456789abcdef0123 2 7 {CHECKSUM} 3.11")


def fill(folder: str) -> None:
    Path(folder, "a").write_text("1234")
    Path(folder, "b").mkdir()
    Path(folder, "b", "c").write_text("567")


def never(folder: str) -> None:
    raise AssertionError("unpacked once more")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_unpacked_folder_is_found_again(tmp_path: Path) -> None:
    folder = unpacked(BUILD, [str(tmp_path)], fill)
    assert measure(folder) == BUILD.measure
    assert is_own(folder)
    assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert unpacked(BUILD, [str(tmp_path)], never) == folder
    assert names(tmp_path) == [BUILD.folder_name]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a missing file": lambda folder: (folder / "a").unlink(),
    "an empty file": lambda folder: (folder / "a").write_text(""),
    "another content of the same size": lambda folder: (folder / "a").write_text("1243"),
    "zeros of the same size": lambda folder: (folder / "b" / "c").write_bytes(bytes(3)),
    "the bytes of one file at the end of another": lambda folder: (
        (folder / "a").write_text("123"),
        (folder / "b" / "c").write_text("4567"),
    ),
    "another name": lambda folder: (folder / "a").rename(folder / "x"),
    "one file more": lambda folder: (folder / "x").touch(),
    "a link in place of a file": lambda folder: (
        (folder / "b").rename(folder.parent.parent / "b"),
        (folder / "b").symlink_to(folder.parent.parent / "b"),  # type: ignore[func-returns-value]
    ),
    "a file that others may write to": lambda folder: (folder / "a").chmod(0o646),
    "a folder below that others may write to": lambda folder: (folder / "b").chmod(0o775),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_replaced(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    folder = unpacked(BUILD, [str(parent)], fill)
    damage(Path(folder))
    assert unpacked(BUILD, [str(parent)], fill) == folder
    assert unpacked(BUILD, [str(parent)], never) == folder
    tmp_path = parent
    assert unpacked(BUILD, [str(tmp_path)], fill) == folder
    assert measure(folder) == BUILD.measure
    assert names(tmp_path) == [BUILD.folder_name]


def test_a_partial_folder_is_neither_used_nor_left_behind(tmp_path: Path) -> None:
    def fail(folder: str) -> None:
        Path(folder, "a").write_text("1234")
        raise OSError(28, "No space left on device")

    with pytest.raises(UnpackError, match="No space left"):
        unpacked(BUILD, [str(tmp_path)], fail)
    with pytest.raises(UnpackError, match="not complete"):
        unpacked(BUILD, [str(tmp_path)], lambda folder: Path(folder, "a").touch())
    assert names(tmp_path) == []


def test_the_next_parent_is_used_if_the_first_is_not_writable(tmp_path: Path) -> None:
    absent, own = str(tmp_path / "absent"), str(tmp_path / "own")
    folder = unpacked(BUILD, [absent, own], fill)
    assert folder.startswith(own)
    assert Path(own).stat().st_mode & 0o777 == 0o700
    assert unpacked(BUILD, [absent, own], never) == folder


@pytest.mark.parametrize("planted", ["link", "writable", "file"])
def test_a_planted_folder_is_neither_used_nor_touched(tmp_path: Path, planted: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    folder = first / BUILD.folder_name
    if planted == "link":
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        fill(str(elsewhere))
        folder.symlink_to(elsewhere)
    elif planted == "writable":
        folder.mkdir()
        fill(str(folder))
        folder.chmod(0o777)
    else:
        folder.touch()
    assert unpacked(BUILD, [str(first), str(second)], fill) == str(second / BUILD.folder_name)
    assert names(first) == [BUILD.folder_name]


def test_a_folder_of_another_user_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = unpacked(BUILD, [str(tmp_path)], fill)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not is_own(folder)
    with pytest.raises(UnpackError):
        unpacked(BUILD, [str(tmp_path)], fill)
    assert measure(folder) == BUILD.measure


def test_a_temporary_folder_writable_by_others_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(UnpackError, match="belongs to another user"):
        unpacked(BUILD, [str(tmp_path / "absent"), str(tmp_path / "shared")], fill)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_concurrent_starts_all_get_the_same_complete_folder(tmp_path: Path, is_damaged: bool) -> None:
    for number in range(20):
        parent = tmp_path / str(number)
        parent.mkdir()
        if is_damaged:
            Path(unpacked(BUILD, [str(parent)], fill), "added").touch()
        with ThreadPoolExecutor(8) as threads:
            folders = set(threads.map(lambda _, at: unpacked(BUILD, [at], fill), range(32), [str(parent)] * 32))
        assert len(folders) == 1
        assert measure(folders.pop()) == BUILD.measure
        assert names(parent) == [BUILD.folder_name]


def test_old_partial_folders_are_removed(tmp_path: Path) -> None:
    old, new = (tmp_path / f"{BUILD.folder_name}.partial-{name}" for name in ("old", "new"))
    old.mkdir(mode=0o700)
    new.mkdir(mode=0o700)
    os.utime(old, (0, 0))
    unpacked(BUILD, [str(tmp_path)], fill)
    assert names(tmp_path) == sorted([BUILD.folder_name, new.name])


def test_the_bootstrap_imports_almost_nothing() -> None:
    source = Path(bootstrap.__file__).read_text(encoding="utf-8")
    imported = {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imported == {
        "__future__",
        "contextlib",
        "os",
        "stat",
        "sys",
        "zipimport",
        "collections.abc",
        "importlib.machinery",
    }
