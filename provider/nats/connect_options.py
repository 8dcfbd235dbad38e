"""nats-py's options for connecting: servers, credentials and TLS; and what its errors mean."""

from __future__ import annotations

import asyncio
import os
import pathlib
import ssl
import sys
from typing import Any

from nats import errors as nats_errors
from nats.aio.client import RawCredentials

from provider import errors
from provider.nats.settings import ConnectionSettings

CONNECT_FAILURES: tuple[type[Exception], ...] = (nats_errors.Error, OSError, ValueError, AssertionError)
"""The errors that nats-py raises for a connection that fails, besides `seed_errors`."""

_DROPPED = ("broken pipe", "connection reset", "unexpected eof", "empty response")
"""Words of the errors of a connection that the server has closed without a reason."""

_CREDENTIALS_REFUSED = ("authorization violation", "authentication", "user or password", "nkey", "expired", "revoked")
"""Words of the errors by which a server refuses credentials."""


def connect_options(settings: ConnectionSettings) -> dict[str, Any]:
    """Convert settings to nats-py's options.

    Raises:
        errors.ConnectError: A file cannot be read, or a certificate cannot be loaded.
    """
    options: dict[str, Any] = {"servers": list(settings.servers)}
    if settings.creds_file:
        options["user_credentials"] = RawCredentials(_read_creds(settings.creds_file))
    elif settings.client_jwt:
        options["user_credentials"] = RawCredentials(_creds(settings))
    elif settings.client_seed:
        options["nkeys_seed_str"] = settings.client_seed.reveal()
    if settings.token:
        options["token"] = settings.token.reveal()
    if settings.user:
        options["user"], options["password"] = settings.user, settings.password.reveal()
    context = _tls_context(settings)
    if context is not None:
        options["tls"] = context
    return options


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


def _creds(settings: ConnectionSettings) -> str:
    return (
        f"-----BEGIN NATS USER JWT-----\n{settings.client_jwt.reveal()}\n------END NATS USER JWT------\n"
        f"-----BEGIN USER NKEY SEED-----\n{settings.client_seed.reveal()}\n------END USER NKEY SEED------\n"
    )


def _read_creds(path: str) -> str:
    """Read a credentials file. Without its two blocks, nats-py's reader would loop for ever."""
    try:
        text = pathlib.Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        raise errors.ConnectError(f"file cannot be read: {describe(error)}", True, False) from None
    if "-BEGIN NATS USER JWT-" not in text or "-BEGIN USER NKEY SEED-" not in text:
        raise errors.ConnectError("file is not a NATS credentials file", True, False)
    return text


def _tls_context(settings: ConnectionSettings) -> ssl.SSLContext | None:
    if not settings.uses_tls:
        return None
    context = ssl.create_default_context()
    try:
        if settings.tls_ca_file:
            context.load_verify_locations(cafile=settings.tls_ca_file)
        if settings.tls_ca:
            # A link value is often written on one line, with its line ends as `\n`.
            context.load_verify_locations(cadata=settings.tls_ca.replace("\\n", "\n"))
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = f"TLS certificate authority cannot be loaded: {describe(error)}"
        raise errors.ConnectError(reason, False, True) from None
    try:
        if settings.tls_cert_file:
            context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file or None)
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = f"TLS client certificate cannot be loaded: {describe(error)}"
        raise errors.ConnectError(reason, False, True) from None
    return context
