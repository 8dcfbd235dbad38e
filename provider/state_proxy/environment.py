"""The environment variables of the connector, parsed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.secret import Secret
from provider.errors import LinkError, StartupError
from provider.keyvalue.link_config import BucketConfig, parse_link
from provider.nats.settings import ConnectionSettings
from provider.state_proxy.variables import BUCKET, CREDS, CREDS_FILE, PREFIX, SOCKET, URL

_VARIABLES = {"URL": URL, "BUCKET": BUCKET, "CREDS_FILE": CREDS_FILE}
"""The variable for each link value of the same meaning."""

_SETTINGS_AT_FAULT = _VARIABLES | {"CLIENT_JWT": CREDS, "CLIENT_SEED": CREDS}
"""The variable to correct for each link value that an error may name."""


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """The socket to listen on and the bucket to serve. `prefix` is "" if the connector serves every key of the bucket."""

    socket_path: str
    connection: ConnectionSettings
    bucket: BucketConfig
    prefix: str


def connector_settings(
    environment: Mapping[str, str], credentials: tuple[Secret, Secret] | None = None
) -> ConnectorSettings:
    """Parse the settings. An empty variable counts as unset; the required ones have been checked at the start.

    Args:
        environment: The variables.
        credentials: User JWT and seed that were in `NATS_CREDS`.

    Raises:
        StartupError: A variable is invalid. The text has the name of the variable, but not its value.
    """
    values = {setting: environment[name] for setting, name in _VARIABLES.items() if environment.get(name)}
    if credentials is not None:
        if environment.get(CREDS_FILE):
            raise StartupError(f"{CREDS}: cannot be given together with {CREDS_FILE}")
        values |= {"CLIENT_JWT": credentials[0].reveal(), "CLIENT_SEED": credentials[1].reveal()}
    try:
        link = parse_link(
            values | {"CREATE": "never"}, lattice="", link_name="", lattice_connection=ConnectionSettings(())
        )
    except LinkError as error:
        raise startup_error(error) from None
    prefix = environment.get(PREFIX, "").rstrip(".")
    return ConnectorSettings(environment[SOCKET], link.connection, link.bucket, prefix)


def startup_error(error: LinkError) -> StartupError:
    """Name the variable that prevents the store from opening."""
    return StartupError(f"{_SETTINGS_AT_FAULT.get(error.setting, URL)}: {error.reason}")
