"""The files of an archive's two keys: the issuer's (an account, `A...`) and the provider's (a service, `V...`).

Folder and file names are those of `wash`, so that both tools use the same keys. A missing key is generated and stored. A
seed is never shown.

Source: wasmCloud v0.82.0 crates/wash-cli/src/par.rs, crates/wash-lib/src/cli/mod.rs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from contracts.nkeys import KeyKind, Seed, parse_seed
from provider.commands.errors import KeyFileError
from provider.commands.minting import make_seed

FOLDER_VARIABLE = "WASH_KEYS"

_MAX_FILE_BYTES = 1024
"""A seed has 58 characters; the rest allows for white space. A wrong file, however large, is not read whole."""


def keys_folder(environment: Mapping[str, str], home: Path) -> Path:
    """Return the folder of the keys: `$WASH_KEYS`, else `~/.wash/keys`."""
    given = environment.get(FOLDER_VARIABLE)
    return Path(given) if given else home / ".wash" / "keys"


def key_path(folder: Path, kind: KeyKind, user: str, provider: str) -> Path:
    """Return the file of a key as `wash` names it: the account is the user's, the service the provider's."""
    name = user if kind is KeyKind.ACCOUNT else provider
    return folder / f"{name}_{kind.name.lower()}.nk"


def read_seed(path: Path, kind: KeyKind) -> Seed:
    """Read a seed from its file.

    Raises:
        KeyFileError: The file cannot be read, or does not contain a seed of this kind.
    """
    try:
        with path.open("rb") as file:
            seed = parse_seed(file.read(_MAX_FILE_BYTES).decode("ascii"))
    except OSError as error:
        raise KeyFileError(f"the key of the {kind.name.lower()} cannot be read: {error}") from None
    except ValueError:
        raise KeyFileError(f"{path} does not contain the seed of an nkey") from None
    if seed.kind is not kind:
        raise KeyFileError(f"{path} contains a seed of kind {seed.kind.name.lower()}, not of kind {kind.name.lower()}")
    return seed


def read_or_make_seed(path: Path, kind: KeyKind) -> tuple[Seed, bool]:
    """Read a seed from its file; if the file does not exist, generate a seed and store it. Return also whether it is new.

    Concurrent processes return the same seed: only one of them can create the file.

    Raises:
        KeyFileError: The file cannot be read or written, or does not contain a seed of this kind.
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
        raise KeyFileError(f"the key of the {kind.name.lower()} cannot be stored: {error}") from None
    return seed, True
