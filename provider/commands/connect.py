"""The connection options of the commands, turned into a connection. Errors name the option at fault."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from contracts.secret import Secret
from provider import errors
from provider.commands.errors import (
    BucketNotFoundError,
    CommandError,
    NoAnswerError,
    OptionError,
    ServerRefusedError,
    UnreachableError,
)
from provider.keyvalue.link_forms import server_url
from provider.nats import buckets
from provider.nats import jetstream as js
from provider.nats.connect_options import parse_creds, parse_seed_file
from provider.nats.connection import Connection
from provider.nats.files import FileError, read_file
from provider.nats.settings import ConnectionSettings

_NO_JETSTREAM = frozenset({buckets.NOT_ENABLED_FOR_ACCOUNT, buckets.NOT_ENABLED})
"""JetStream is not enabled for the account, or on the server. Source: nats-server server/errors.json."""

_NO_SERVER = "; --nats names another server, and `keyvalue-nats dev` starts one"
"""Hint for a person who has named no server, or the usual one."""

LINK_VALUE_OPTIONS = {
    "CREDS_FILE": "--creds",
    "CLIENT_JWT": "--creds",
    "NKEY_SEED": "--nkey",
    "TOKEN": "--user",
    "USER": "--user",
    "TLS_CA_FILE": "--tlsca",
    "TLS_CERT_FILE": "--tlscert and --tlskey",
    "URL": "--nats",
    "JS_DOMAIN": "--js-domain",
}
"""Link value that a connection error names -> option of the commands."""


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """The connection options of a command, from the command line or the environment. "" means not given.

    Attributes:
        url: URLs of the servers, comma-separated; may contain a user and a password.
        user: Name of the user, or a token if no password is given.
        nkey: Path of a file with a seed. `creds`, `tls_ca`, `tls_cert` and `tls_key` are paths as well.
        js_domain: JetStream domain, for servers behind leaf nodes.
    """

    url: str = field(repr=False)
    creds: str = ""
    user: str = ""
    password: Secret = Secret("")
    nkey: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    js_domain: str = ""


def settings_of(options: ConnectionOptions) -> ConnectionSettings:
    """Return the settings of the connection.

    Raises:
        OptionError: An option is not valid. The text never shows a secret.
    """
    try:
        servers = tuple(server_url(server.strip()) for server in options.url.split(",") if server.strip())
    except ValueError as error:
        raise OptionError("--nats", str(error)) from None
    if not servers:
        raise OptionError("--nats", "expected a URL like nats://host:4222")
    if options.password and not options.user:
        raise OptionError("--password", "needs --user")
    if bool(options.tls_cert) != bool(options.tls_key):
        raise OptionError("--tlscert", "needs --tlskey, and the other way round")
    return ConnectionSettings(
        servers=servers,
        **_credentials(options),
        token=Secret(options.user) if not options.password else Secret(""),
        user=options.user if options.password else "",
        password=options.password,
        tls_ca_file=_file("--tlsca", options.tls_ca),
        tls_cert_file=_file("--tlscert", options.tls_cert),
        tls_key_file=_file("--tlskey", options.tls_key),
        js_domain=options.js_domain,
    )


@contextlib.asynccontextmanager
async def connected(options: ConnectionOptions, timeout_seconds: float) -> AsyncIterator[js.JetStream]:
    """Connect, and close the connection at the end.

    Raises:
        UnreachableError: No server accepted the connection in time. The text has no user and no password.
        OptionError: An option is not valid.
    """
    settings = settings_of(options)
    async with contextlib.AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(Connection(settings, "keyvalue-nats kv", timeout_seconds))
        except errors.ConnectError as error:
            option = LINK_VALUE_OPTIONS.get(settings.credentials_setting, "") if error.is_credentials else ""
            reason = f"{option}: {error.reason}" if option else error.reason
            from provider.commands.connection_file import DEFAULT_URL

            hint = _NO_SERVER if settings.servers == (DEFAULT_URL,) and not error.is_credentials else ""
            raise UnreachableError(addresses(settings.servers), reason + hint) from None
        yield js.JetStream(connection, settings.js_domain)


@contextlib.contextmanager
def explained(bucket: str = "") -> Iterator[None]:
    """Translate the errors of requests to JetStream into errors for people.

    Raises:
        CommandError: In place of any `errors.NatsError` and of a time-out.
    """
    try:
        yield
    except (errors.NatsError, TimeoutError) as error:
        raise _explanation(error, bucket) from None


def _explanation(error: Exception, bucket: str) -> CommandError:
    match error:
        case errors.ApiError(err_code=buckets.STREAM_NOT_FOUND) if bucket:
            return BucketNotFoundError(bucket)
        case errors.ApiError(err_code=code) if code in _NO_JETSTREAM:
            return ServerRefusedError(f"JetStream is not enabled: {error}")
        case errors.ApiError() | errors.PermissionsError():
            return ServerRefusedError(str(error))
        case errors.NoRespondersError():
            return NoAnswerError("no JetStream server answers: JetStream is not enabled, or --js-domain is wrong")
        case TimeoutError() | errors.RequestTimeoutError():
            return NoAnswerError("the server is connected but did not answer in time")
    return NoAnswerError(str(error))


def addresses(servers: tuple[str, ...]) -> str:
    """Return server URLs for display, without user and password."""
    shown = []
    for server in servers:
        parts = urlsplit(server)
        shown.append(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    return ", ".join(shown)


def deadline_in(seconds: float) -> float:
    """Return the time `seconds` from now on the event loop's clock."""
    return asyncio.get_running_loop().time() + seconds


def _file(option: str, path: str) -> str:
    """Return the path of a regular file that can be read, "" for none. It is read again at every attempt to connect.

    The text of an error has no path, in place of which a seed may be given.
    """
    if not path:
        return ""
    try:
        read_file(path)
    except FileError as error:
        raise OptionError(option, f"file cannot be read: {error}") from None
    return str(Path(path).expanduser())


def _pipe(path: str) -> bytes | None:
    """Return the content of a pipe, as `<(command)` of a shell makes one, which can be read only once; `None` if no pipe."""
    try:
        return Path(path).read_bytes() if path and stat.S_ISFIFO(Path(path).stat().st_mode) else None
    except (OSError, ValueError):
        return None


def _credentials(options: ConnectionOptions) -> dict[str, Any]:
    """Return the settings for `--creds` and `--nkey`."""
    option = "--creds"
    try:
        piped = _pipe(options.creds)
        client_jwt, client_seed = (Secret(""), Secret("")) if piped is None else parse_creds(piped)
        creds_file = _file(option, options.creds) if piped is None else ""
        option = "--nkey"
        piped = _pipe(options.nkey)
        seed_file = _file(option, options.nkey) if piped is None else ""
        if options.nkey:
            seed = parse_seed_file(read_file(seed_file) if piped is None else piped)
            client_seed = client_seed if piped is None else seed
    except errors.ConnectError as error:
        raise OptionError(option, error.reason) from None
    return {"creds_file": creds_file, "client_jwt": client_jwt, "client_seed": client_seed, "seed_file": seed_file}
