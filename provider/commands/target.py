"""The connection options of commands that connect to a server of their own choice, as the `nats` command names them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from contracts.secret import Secret
from provider.commands import connection_file
from provider.commands.connect import ConnectionOptions
from provider.commands.errors import NoLatticeError
from provider.commands.options import timeout_seconds

_DEFAULT_URL = "nats://127.0.0.1:4222"


@dataclass(frozen=True)
class Target:
    """The server that a command works on, and the limit for each of its answers."""

    options: ConnectionOptions
    timeout_seconds: float


def _connection_option(*names: str, variable: str, text: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, envvar=variable, metavar=metavar, help=text, rich_help_panel="Connection")


_NATS_HELP = f"URLs of servers, comma-separated. Default: a running `keyvalue-nats dev`, else {_DEFAULT_URL}."


def _target(
    nats: Annotated[
        str,
        _connection_option("--nats", "--server", "-s", variable="NATS_URL", metavar="URL", text=_NATS_HELP),
    ] = "",
    creds: Annotated[
        str, _connection_option(variable="NATS_CREDS", metavar="FILE", text="Path of a credentials file.")
    ] = "",
    user: Annotated[
        str, _connection_option(variable="NATS_USER", text="Name of the user; without --password, a token.")
    ] = "",
    password: Annotated[str, _connection_option(variable="NATS_PASSWORD", text="Password of the user.")] = "",
    nkey: Annotated[
        str, _connection_option(variable="NATS_NKEY", metavar="FILE", text="Path of a file with an nkey's seed.")
    ] = "",
    tlsca: Annotated[
        str, _connection_option(variable="NATS_CA", metavar="FILE", text="Path of the certificate authority.")
    ] = "",
    tlscert: Annotated[
        str, _connection_option(variable="NATS_CERT", metavar="FILE", text="Path of the client's certificate.")
    ] = "",
    tlskey: Annotated[
        str, _connection_option(variable="NATS_KEY", metavar="FILE", text="Path of the certificate's key.")
    ] = "",
    js_domain: Annotated[
        str,
        _connection_option(
            "--js-domain",
            "--domain",
            variable="NATS_JS_DOMAIN",
            text="JetStream domain, for servers behind leaf nodes.",
        ),
    ] = "",
    timeout: Annotated[
        str,
        _connection_option(
            variable="NATS_TIMEOUT", metavar="DURATION", text="Limit for connecting, and for each answer."
        ),
    ] = "5s",
) -> Target:
    """Return the target. The parameters of this function are the connection options of every command."""
    is_bare = not any((nats, creds, user, password, nkey, tlsca, tlscert, tlskey))
    options = ConnectionOptions(
        url=nats or (_development_url() if is_bare else "") or _DEFAULT_URL,
        creds=creds,
        user=user,
        password=Secret(password),
        nkey=nkey,
        tls_ca=tlsca,
        tls_cert=tlscert,
        tls_key=tlskey,
        js_domain=js_domain,
    )
    return Target(options, timeout_seconds(timeout))


def with_target(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's first parameter, its `Target`, by the connection options."""
    own, shared = inspect.signature(command, eval_str=True), inspect.signature(_target, eval_str=True)

    def run(**given: Any) -> None:
        target = _target(**{name: given.pop(name) for name in shared.parameters})
        command(target, **given)

    # typer builds the options from the signature and the annotations of the function.
    parameters = [*list(own.parameters.values())[1:], *shared.parameters.values()]
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _development_url() -> str:
    try:
        return connection_file.find().nats_url
    except NoLatticeError:
        return ""
