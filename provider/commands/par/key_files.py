"""The files of an archive's two keys: its issuer's (an account, `A...`) and its own (a service, `V...`).

They are where `wash` keeps its keys, under the names that it gives them, so that both use the same. A missing key is
made and kept. A seed is never shown.

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
"""A seed has 58 characters. The rest is room for white space, so that a wrong file is not read whole."""


def keys_folder(environment: Mapping[str, str], home: Path) -> Path:
    """Return the folder of the keys: `$WASH_KEYS`, else `~/.wash/keys`."""
    given = environment.get(FOLDER_VARIABLE)
    return Path(given) if given else home / ".wash" / "keys"


def kept_path(folder: Path, kind: KeyKind, user: str, provider: str) -> Path:
    """Return the file of a key as `wash` names it: the account is the user's, the service the provider's."""
    name = user if kind is KeyKind.ACCOUNT else provider
    return folder / f"{name}_{kind.name.lower()}.nk"


def read_seed(path: Path, kind: KeyKind) -> Seed:
    """Read the file of a seed.

    Raises:
        KeyFileError: The file cannot be read, or does not hold a seed of this kind.
    """
    try:
        with path.open("rb") as file:
            seed = parse_seed(file.read(_MAX_FILE_BYTES).decode("ascii"))
    except OSError as error:
        raise KeyFileError(f"the key of the {kind.name.lower()} cannot be read: {error}") from None
    except ValueError:
        raise KeyFileError(f"{path} holds no seed of an nkey") from None
    if seed.kind is not kind:
        raise KeyFileError(f"{path} holds a seed of kind {seed.kind.name.lower()}, not of kind {kind.name.lower()}")
    return seed


def read_or_make_seed(path: Path, kind: KeyKind) -> tuple[Seed, bool]:
    """Read the file of a seed, or make a seed and keep it there if the file is missing. The flag says it was made.

    Several processes may do so at the same moment: one makes the seed, all return the same.

    Raises:
        KeyFileError: The file cannot be read or written, or does not hold a seed of this kind.
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
