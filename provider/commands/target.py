"""The connection options of commands that connect to a server of their own choice, as the `nats` command names them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import typer

from contracts.secret import Secret
from provider.commands.connect import ConnectionOptions
from provider.commands.options import timeout_seconds


@dataclass(frozen=True)
class Target:
    """The server that a command works on, and the limit for each of its answers."""

    options: ConnectionOptions
    timeout_seconds: float


def _option(*names: str, variable: str, metavar: str, text: str) -> Any:
    return typer.Option(*names, envvar=variable, metavar=metavar, help=text, rich_help_panel="Connection")


_NATS_HELP = "Servers, comma-separated. Default: a running `keyvalue-nats dev`, else nats://127.0.0.1:4222."


def _target(
    nats: Annotated[str, _option("--nats", "--server", "-s", variable="NATS_URL", metavar="URL", text=_NATS_HELP)] = "",
    creds: Annotated[str, _option(variable="NATS_CREDS", metavar="FILE", text="Credentials file.")] = "",
    user: Annotated[str, _option(variable="NATS_USER", metavar="NAME", text="User; without --password, a token.")] = "",
    password: Annotated[str, _option(variable="NATS_PASSWORD", metavar="PASSWORD", text="Password of the user.")] = "",
    nkey: Annotated[str, _option(variable="NATS_NKEY", metavar="FILE", text="File with the seed of an nkey.")] = "",
    tlsca: Annotated[str, _option(variable="NATS_CA", metavar="FILE", text="Certificate authority.")] = "",
    tlscert: Annotated[str, _option(variable="NATS_CERT", metavar="FILE", text="Certificate of the client.")] = "",
    tlskey: Annotated[str, _option(variable="NATS_KEY", metavar="FILE", text="Key of that certificate.")] = "",
    js_domain: Annotated[
        str,
        _option(
            "--js-domain",
            "--domain",
            variable="NATS_JS_DOMAIN",
            metavar="NAME",
            text="JetStream domain, for servers behind leaf nodes.",
        ),
    ] = "",
    timeout: Annotated[
        str, _option(variable="NATS_TIMEOUT", metavar="DURATION", text="Limit for connecting, and for each answer.")
    ] = "5s",
) -> Target:
    """Return the target. The parameters of this function are the connection options of every command."""
    is_bare = not any((nats, creds, user, password, nkey, tlsca, tlscert, tlskey))
    options = ConnectionOptions(
        url=nats or _default_url(is_bare=is_bare),
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

    def run(**given: Any) -> None:
        target = _target(**{option.name: given.pop(option.name) for option in _OPTIONS})
        command(target, **given)

    return _signed(run, command, [*_own(command), *_OPTIONS])


def connection_options(group: Callable[[], None]) -> Callable[..., None]:
    """Return the callback of a group of commands, with the connection options. The group's help shows them once."""

    def run(**given: Any) -> None:
        given.pop(_CONTEXT.name).meta[_GIVEN] = given
        group()

    return _signed(run, group, [_CONTEXT, *_OPTIONS])


def with_target_of_group(command: Callable[..., None]) -> Callable[..., None]:
    """Do as `with_target` for a command of such a group. Behind the command the options are accepted, hidden, and win."""

    def run(**given: Any) -> None:
        before = given.pop(_CONTEXT.name).meta[_GIVEN]
        behind = {option.name: given.pop(option.name) for option in _OPTIONS}
        command(_target(**{name: text or before[name] for name, text in behind.items()}), **given)

    return _signed(run, command, [_CONTEXT, *_own(command), *map(_hidden, _OPTIONS)])


_OPTIONS = tuple(inspect.signature(_target, eval_str=True).parameters.values())

_CONTEXT = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

_GIVEN = "provider.commands.target"
"""Key of the options that stand before a command, in the context of the command line."""


def _own(command: Callable[..., None]) -> list[inspect.Parameter]:
    """Return the parameters of a command but its `Target`."""
    return list(inspect.signature(command, eval_str=True).parameters.values())[1:]


def _signed(
    run: Callable[..., None], named: Callable[..., None], parameters: list[inspect.Parameter]
) -> Callable[..., None]:
    """Give a function the parameters from which typer builds options, and the name and text of another function."""
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = named.__name__, named.__doc__
    return run


def _default_url(*, is_bare: bool) -> str:
    """Return the server of a command without `--nats`: that of a development lattice has no credentials."""
    from provider.commands.connection_file import DEFAULT_URL, found_url

    return found_url() if is_bare else DEFAULT_URL


def _hidden(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return an option without help, variable and default: the same option of the group has them."""
    type_, shown = get_args(parameter.annotation)
    option = copy.copy(shown)
    option.hidden, option.envvar = True, None
    return parameter.replace(annotation=Annotated[type_, option], default="")
