import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.commands.errors import MalformedArchiveError
from provider.commands.par.archive_file import (
    MAX_ENTRIES,
    Contents,
    Executable,
    parse_archive,
    read_archive,
    write_archive,
)
from tests.unit.commands.par.files import EXECUTABLE, TARGET, tar

TOKEN = "a.b.c"
_BLOCK = 512
GOOD = tar([("claims.jwt", TOKEN.encode()), (f"{TARGET}.bin", EXECUTABLE)])
READ = Contents(TOKEN, (Executable(TARGET, len(EXECUTABLE), hashlib.sha256(EXECUTABLE).hexdigest().upper()),))


def test_a_tar_written_by_tarfile_is_read() -> None:
    assert parse_archive(io.BytesIO(GOOD)) == READ


def test_the_order_of_entries_and_their_extension_do_not_matter() -> None:
    other = tar([(f"{TARGET}.exe", EXECUTABLE), ("claims.json", TOKEN.encode())])
    assert parse_archive(io.BytesIO(other)) == READ


@pytest.mark.parametrize("name", ["a.par", "a.par.gz"])
def test_tarfile_and_the_reader_agree_on_a_written_archive(tmp_path: Path, name: str) -> None:
    executable = tmp_path / "executable"
    executable.write_bytes(EXECUTABLE)
    write_archive(tmp_path / name, TOKEN, {TARGET: executable}, 0)
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    with tarfile.open(tmp_path / name) as archive:
        assert archive.getnames() == ["claims.jwt", f"{TARGET}.bin"]
        assert archive.getmember(f"{TARGET}.bin").mode == 0o755
    assert read_archive(tmp_path / name) == READ
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_gzip_is_detected_by_its_first_bytes_not_by_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.par").write_bytes(gzip.compress(GOOD))
    (tmp_path / "b.par.gz").write_bytes(GOOD)
    assert read_archive(tmp_path / "a.par") == read_archive(tmp_path / "b.par.gz") == READ


@given(st.integers(0, len(GOOD)))
def test_a_truncated_archive_is_refused_or_lacks_whole_entries(size: int) -> None:
    """A tar is valid without its closing blocks. A missing executable is detected by the claims."""
    try:
        read = parse_archive(io.BytesIO(GOOD[:size]))
    except MalformedArchiveError:
        assert size % _BLOCK or size < 4 * _BLOCK
    else:
        assert read == (READ if size >= 4 * _BLOCK else Contents(TOKEN, ()))


@given(st.binary(max_size=2048) | st.binary(max_size=600).map(lambda data: GOOD[:512] + data))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse_archive(io.BytesIO(data))
    except MalformedArchiveError as error:
        assert str(error)  # noqa: PT017  (no other exception comes out)


@given(st.integers(0, 147) | st.integers(156, 1023), st.integers(1, 255))
def test_one_wrong_byte_in_a_header_or_the_claims_is_always_detected(position: int, flipped: int) -> None:
    """Except in the checksum itself, which has several valid forms."""
    data = bytearray(GOOD)
    data[position] ^= flipped
    try:
        read = parse_archive(io.BytesIO(bytes(data)))
    except MalformedArchiveError:
        return
    assert read != READ or 512 + len(TOKEN) <= position  # padding


@pytest.mark.parametrize("size", range(0, 40, 7))
def test_a_truncated_gzip_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.par.gz"
    path.write_bytes(gzip.compress(GOOD)[: 3 + size])
    with pytest.raises(MalformedArchiveError, match=r"a\.par\.gz"):
        read_archive(path)


def test_a_missing_archive_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MalformedArchiveError, match=r"a\.par\.gz cannot be read: no such file or directory$"):
        read_archive(tmp_path / "a.par.gz")


def header_with_size(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


REFUSED = {
    "nothing": (b"", "not a provider archive"),
    "no claims": (tar([(f"{TARGET}.bin", EXECUTABLE)]), "no claims.jwt"),
    "two claims": (tar([("claims.jwt", b"a"), ("claims.txt", b"b")]), "two entries of claims"),
    "two of one target": (tar([(f"{TARGET}.bin", b"a"), (f"x/{TARGET}.bin", b"b")]), "two entries for"),
    "claims that are not text": (tar([("claims.jwt", b"\xff")]), "not a token"),
    "long claims": (header_with_size("claims.jwt", 2 << 20), "the maximum is"),
    "a huge entry": (header_with_size(f"{TARGET}.bin", 8 << 30), "over the maximum"),
    "a large entry": (header_with_size(f"{TARGET}.bin", (1 << 30) + 1), "over the maximum"),
    "a cut entry": (header_with_size(f"{TARGET}.bin", 1 << 20) + EXECUTABLE, "cut short"),
    "a symbolic link": (tar([("claims.jwt", b"")], type=tarfile.SYMTYPE, linkname="/etc/passwd"), "plain file"),
    "a device": (tar([("claims.jwt", b"")], type=tarfile.CHRTYPE), "plain file"),
    "a long name": (tar([("a" * 300, b"")]), "plain file"),
    "many entries": (tar([(f"t{number}.bin", b"") for number in range(MAX_ENTRIES + 1)]), "more than"),
    "text": (b"keyvalue" * 100, "neither a tar"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_contents_that_hosts_could_not_read_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedArchiveError, match=reason):
        parse_archive(io.BytesIO(data))


def test_an_endless_gzip_of_zeros_is_refused_after_a_block(tmp_path: Path) -> None:
    path = tmp_path / "bomb.par.gz"
    path.write_bytes(gzip.compress(bytes(1 << 24)))
    with pytest.raises(MalformedArchiveError, match="not a provider archive"):
        read_archive(path)
