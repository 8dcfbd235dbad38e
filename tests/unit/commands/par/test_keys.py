import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contracts.nkeys import KeyKind
from provider.commands.errors import KeyFileError
from provider.commands.par.key_files import key_path, keys_folder, read_or_make_seed, read_seed
from tests.blackbox.key_pairs import KeyPair

ACCOUNT, SERVICE = KeyKind.ACCOUNT, KeyKind.SERVICE


def test_a_key_is_generated_once_and_readable_only_by_its_user(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "keys" / "me_account.nk"
    made, is_made = read_or_make_seed(path, ACCOUNT)
    again, is_made_again = read_or_make_seed(path, ACCOUNT)
    assert (is_made, is_made_again) == (True, False)
    assert made.public_key == again.public_key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["me_account.nk"]


def test_concurrent_processes_get_the_same_new_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        seeds = list(threads.map(lambda _: read_or_make_seed(tmp_path / "k.nk", SERVICE)[0], range(16)))
    assert len({seed.public_key for seed in seeds}) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"SVnonsense", b"\xff" * 58, KeyPair.generate("A").seed.encode()],
    ids=["nothing", "nonsense", "binary", "another kind"],
)
def test_a_file_without_the_right_seed_is_an_error_that_names_it_and_shows_nothing(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "key.nk"
    path.write_bytes(content)
    with pytest.raises(KeyFileError) as raised:
        read_seed(path, SERVICE)
    assert "key.nk" in str(raised.value)
    assert content == b"" or content.decode("latin-1") not in str(raised.value)


def test_a_missing_or_unwritable_key_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        read_seed(tmp_path / "key.nk", SERVICE)
    (tmp_path / "file").touch()
    with pytest.raises(KeyFileError, match="Not a directory"):
        read_or_make_seed(tmp_path / "file" / "key.nk", SERVICE)


def test_keys_are_in_the_folder_of_wash() -> None:
    home = Path("/home/me")
    assert keys_folder({}, home) == keys_folder({"WASH_KEYS": ""}, home) == Path("/home/me/.wash/keys")
    assert keys_folder({"WASH_KEYS": "/keys"}, home) == Path("/keys")
    assert key_path(Path("/keys"), ACCOUNT, "me", "keyvalue-nats") == Path("/keys/me_account.nk")
    assert key_path(Path("/keys"), SERVICE, "me", "keyvalue-nats") == Path("/keys/keyvalue-nats_service.nk")
