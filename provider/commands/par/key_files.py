"""The two keys of an archive: its issuer's (an account, `A...`) and its own (a service, `V...`). Given, or made and kept.

They are kept where `wash` keeps its keys, under the names that it gives them, so that both use the same. A seed is
never shown.

Source: wasmCloud v0.82.0 crates/wash-cli/src/par.rs, crates/wash-lib/src/cli/mod.rs; nkeys v0.4 src/lib.rs.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nkeys
from nacl.signing import SigningKey

from contracts.secret import Secret
from provider.commands.dev_lattice.keys import KeyKind, encode_public_key
from provider.commands.errors import KeyFileError

FOLDER_VARIABLE = "WASH_KEYS"

_SEED_PREFIX = 18 << 3
_RAW_BYTES = 32
_MAX_FILE_BYTES = 1024
_NO_SEED = "not the seed of an nkey"


@dataclass(frozen=True)
class SigningSeed:
    """A seed and what kind of key it makes."""

    kind: KeyKind
    text: Secret

    def raw(self) -> bytes:
        return _decode(self.text.reveal())[1]

    @property
    def public_key(self) -> str:
        return encode_public_key(self.kind, bytes(SigningKey(self.raw()).verify_key))


def make_seed(kind: KeyKind) -> SigningSeed:
    """Make a seed. Written here because nkeys refuses the prefix of services."""
    body = bytes([_SEED_PREFIX | kind >> 5, (kind & 0b11111) << 3]) + os.urandom(_RAW_BYTES)
    text = base64.b32encode(body + nkeys.crc16_checksum(body)).rstrip(b"=").decode("ascii")
    return SigningSeed(kind, Secret(text))


def parse_seed(text: str) -> SigningSeed:
    """Read a seed of any kind that archives use.

    Raises:
        ValueError: It is none; the text is not in the error.
    """
    stripped = text.strip()
    kind, _ = _decode(stripped)
    return SigningSeed(KeyKind(kind), Secret(stripped))


def keys_folder(environment: Mapping[str, str], home: Path) -> Path:
    """Return where keys are kept: `$WASH_KEYS`, else `~/.wash/keys`."""
    given = environment.get(FOLDER_VARIABLE)
    return Path(given) if given else home / ".wash" / "keys"


def kept_path(folder: Path, kind: KeyKind, user: str, provider: str) -> Path:
    """Return the file of a key as `wash` names it: the account is the user's, the service the provider's."""
    name = user if kind is KeyKind.ACCOUNT else provider
    return folder / f"{name}_{kind.name.lower()}.nk"


def read_seed(path: Path, kind: KeyKind) -> SigningSeed:
    """Read the file of a seed.

    Raises:
        KeyFileError: It cannot be read, holds no seed, or one of another kind.
    """
    try:
        with path.open("rb") as file:
            seed = parse_seed(file.read(_MAX_FILE_BYTES).decode("ascii"))
    except OSError as error:
        raise KeyFileError(f"the key of the {kind.name.lower()} cannot be read: {error}") from None
    except ValueError:
        raise KeyFileError(f"{path} holds no seed of an nkey") from None
    if seed.kind is not kind:
        raise KeyFileError(f"{path} holds the seed of a {seed.kind.name.lower()}, not of a {kind.name.lower()}")
    return seed


def read_or_make_seed(path: Path, kind: KeyKind) -> tuple[SigningSeed, bool]:
    """Read the file of a seed; where there is none, make one and keep it there. Tells whether it was made.

    Several may do so at the same moment: one makes it, all return the same.

    Raises:
        KeyFileError: It cannot be read or written, holds no seed, or one of another kind.
    """
    if path.exists():
        return read_seed(path, kind), False
    seed = make_seed(kind)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(seed.text.reveal())
            os.link(partial, path)
        finally:
            Path(partial).unlink()
    except FileExistsError:
        return read_seed(path, kind), False
    except OSError as error:
        raise KeyFileError(f"the key of the {kind.name.lower()} cannot be kept: {error}") from None
    return seed, True


def _decode(text: str) -> tuple[int, bytes]:
    """Return prefix and the 32 bytes of a seed.

    Raises:
        ValueError: Not a seed: alphabet, length, prefix or checksum.
    """
    try:
        data = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError:  # also of base64 and of what is not ASCII
        raise ValueError(_NO_SEED) from None
    body, checksum = data[:-2], data[-2:]
    if len(body) != 2 + _RAW_BYTES or nkeys.crc16_checksum(body) != checksum or body[0] & 0b11111000 != _SEED_PREFIX:
        raise ValueError(_NO_SEED)
    return (body[0] & 0b111) << 5 | body[1] >> 3, body[2:]
