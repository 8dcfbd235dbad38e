"""nats-py's options for connecting: servers, credentials and TLS; and what its errors mean."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import ssl
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nats import errors as nats_errors
from nats.aio.client import RawCredentials

from contracts.secret import Secret
from provider import errors
from provider.nats.files import FileError, in_thread, read_file
from provider.nats.settings import ConnectionSettings

CONNECT_FAILURES: tuple[type[Exception], ...] = (nats_errors.Error, OSError, ValueError, AssertionError)
"""The errors that nats-py raises for a connection that fails, besides `seed_errors`."""

_CREDS_BLOCKS = ("NATS USER JWT", "USER NKEY SEED")
"""The two parts of a credentials file. Source: nats-io/jwt v2, creds_utils.go."""

_DROPPED = ("broken pipe", "connection reset", "unexpected eof", "empty response")
"""Words of the errors of a connection that the server has closed without a reason."""

_CREDENTIALS_REFUSED = ("authorization violation", "authentication", "user or password", "nkey", "expired", "revoked")
"""Words of the errors by which a server refuses credentials."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The part of nats-py's options that comes from files.

    Attributes:
        contents: The content of each file, to tell whether one has changed.
        credentials: Content of a credentials file; `None` without one.
        seed: Seed of a user that the server knows by its nkey; "" without one.
        tls: Context for TLS; `None` if the settings name no certificate.
        is_tls_required: Whether only TLS will do. Otherwise the server decides.
    """

    contents: tuple[bytes, ...]
    credentials: RawCredentials | None = None
    seed: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    is_tls_required: bool = False


def fixed_options(settings: ConnectionSettings) -> dict[str, Any]:
    """Return nats-py's options that need no file."""
    options: dict[str, Any] = {"servers": list(settings.servers)}
    if settings.token:
        options["token"] = settings.token.reveal()
    if settings.user:
        options["user"], options["password"] = settings.user, settings.password.reveal()
    return options


async def load(settings: ConnectionSettings, before: Loaded | None) -> Loaded:
    """Read the files that settings name, anew at each call, so that renewed ones are found.

    Args:
        settings: Settings of the connection.
        before: Result of the previous call, returned again if no file has changed.

    Raises:
        errors.ConnectError: A file cannot be read, or its content is of no use.
    """
    paths = settings.files + settings.root_files
    if before is not None and not paths:
        return before
    try:
        return await in_thread(paths, functools.partial(_load, settings, before))
    except FileError as error:
        raise errors.ConnectError(f"file cannot be read: {error}", not settings.uses_tls, settings.uses_tls) from None


def _load(settings: ConnectionSettings, before: Loaded | None) -> Loaded:
    roots = tuple(filter(None, map(_read_root, settings.root_files)))
    named = tuple(_read(settings, path) for path in settings.files)
    contents = named + roots
    if before is not None and contents == before.contents:
        return before
    text = dict(zip(settings.files, named, strict=True))
    credentials, seed = None, ""
    if settings.creds_file:
        user_jwt, user_seed = parse_creds(text[settings.creds_file])
        credentials = _credentials(user_jwt, user_seed)
    elif settings.client_jwt:
        credentials = _credentials(settings.client_jwt, settings.client_seed)
    elif settings.seed_file:
        seed = parse_seed_file(text[settings.seed_file]).reveal()
    elif settings.client_seed:
        seed = settings.client_seed.reveal()
    return Loaded(contents, credentials, seed, _tls_context(settings, roots), settings.uses_tls)


def _read(settings: ConnectionSettings, path: str) -> bytes:
    try:
        return read_file(path)
    except FileError as error:
        match path:
            case settings.creds_file | settings.seed_file:
                raise errors.ConnectError(f"file cannot be read: {error}", True, False) from None
            case settings.tls_ca_file:
                kind = "certificate authority"
            case _:
                kind = "client certificate"
        raise errors.ConnectError(f"TLS {kind} cannot be loaded: {error}", False, True) from None


def _read_root(path: str) -> bytes:
    """Return the content of a file of further authorities; b"" if it is of no use."""
    try:
        content = read_file(path)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (FileError, ssl.SSLError, ValueError):
        return b""
    return content


def parse_creds(content: bytes) -> tuple[Secret, Secret]:
    """Return the user JWT and the seed of a credentials file.

    Raises:
        errors.ConnectError: The file is not one.
    """
    text = content.decode(errors="replace")
    found = [re.search(rf"-BEGIN {name}-+\s+(\S+)\s+-+END {name}-", text) for name in _CREDS_BLOCKS]
    if None in found:
        raise errors.ConnectError("file is not a NATS credentials file", True, False)
    user_jwt, seed = (match[1] for match in found if match is not None)
    _check_seed(seed)
    return Secret(user_jwt), Secret(seed)


def parse_seed_file(content: bytes) -> Secret:
    """Return the seed in a file, whose other lines are comments.

    Raises:
        errors.ConnectError: The file has no seed.
    """
    lines = (line.strip() for line in content.decode(errors="replace").splitlines())
    seed = next((line for line in lines if line.startswith("S")), "")
    _check_seed(seed)
    return Secret(seed)


def _check_seed(seed: str) -> None:
    """Check a seed with the library that will use it: nats-py would raise in the middle of an attempt to connect."""
    import nkeys  # noqa: PLC0415  (1.3 MiB with libsodium, only for those who use it)

    try:
        nkeys.from_seed(bytearray(seed.encode())).wipe()
    except (nkeys.NkeysError, ValueError):
        raise errors.ConnectError("file does not contain the seed of an nkey", True, False) from None


def seed_errors() -> tuple[type[Exception], ...]:
    """Return the errors that nats-py raises for an invalid seed.

    They belong to a library that nats-py imports only when it has a seed to use.
    """
    nkeys = sys.modules.get("nkeys")
    return () if nkeys is None else (nkeys.NkeysError,)


def describe(error: BaseException) -> str:
    """Return the reason of an error without the server's address."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS certificate verification failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'handshake refused'}"
    if isinstance(error, OSError) and error.strerror and error.errno:
        return os.strerror(error.errno).lower() if error.errno > 0 else "server name cannot be resolved"
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "no answer in time"
    text = str(error).removeprefix("nats: ").strip("'\" ")
    return text or type(error).__name__


def is_dropped(reason: str) -> bool:
    """Tell whether a reason from `describe` means that the server closed the connection without one."""
    return any(words in reason.lower() for words in _DROPPED)


def is_refusal(reason: str) -> bool:
    """Tell whether a reason from `describe` means that the server refuses the credentials."""
    return any(words in reason.lower() for words in _CREDENTIALS_REFUSED)


def _credentials(user_jwt: Secret, seed: Secret) -> RawCredentials:
    """Return the content of a credentials file in the one form that nats-py's reader takes."""
    user_block, seed_block = _CREDS_BLOCKS
    return RawCredentials(
        f"-----BEGIN {user_block}-----\n{user_jwt.reveal()}\n------END {user_block}------\n"
        f"-----BEGIN {seed_block}-----\n{seed.reveal()}\n------END {seed_block}------\n"
    )


def _tls_context(settings: ConnectionSettings, roots: Collection[bytes]) -> ssl.SSLContext | None:
    if not settings.uses_tls and not roots:
        return None
    context = ssl.create_default_context()
    for root in roots:
        context.load_verify_locations(cadata=root.decode("ascii", "ignore"))
    try:
        if settings.tls_ca_file:
            context.load_verify_locations(cafile=Path(settings.tls_ca_file).expanduser())
        if settings.tls_ca:
            # A link value is often written on one line, with its line ends as `\n`.
            context.load_verify_locations(cadata=settings.tls_ca.replace("\\n", "\n"))
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = f"TLS certificate authority cannot be loaded: {describe(error)}"
        raise errors.ConnectError(reason, False, True) from None
    try:
        if settings.tls_cert_file:
            certificate, key = Path(settings.tls_cert_file).expanduser(), settings.tls_key_file
            context.load_cert_chain(certificate, Path(key).expanduser() if key else None, _no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = f"TLS client certificate cannot be loaded: {describe(error)}"
        raise errors.ConnectError(reason, False, True) from None
    return context


def _no_password() -> str:
    """Refuse to decrypt a key: OpenSSL would ask for the password on the terminal, and wait."""
    raise ValueError("the key is encrypted with a password")
