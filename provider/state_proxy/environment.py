"""The environment variables of the connector, parsed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from provider.errors import LinkError, StartupError
from provider.keyvalue.link_config import BucketConfig, parse_link
from provider.nats.settings import ConnectionSettings
from provider.state_proxy.variables import BUCKET, CREDS_FILE, PREFIX, SOCKET, URL

_VARIABLES = {"URL": URL, "BUCKET": BUCKET, "CREDS_FILE": CREDS_FILE}
"""The variable for each link value of the same meaning."""


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """The socket to listen on and the bucket to serve. `prefix` is "" if the connector serves every key of the bucket."""

    socket_path: str
    connection: ConnectionSettings
    bucket: BucketConfig
    prefix: str


def connector_settings(environment: Mapping[str, str]) -> ConnectorSettings:
    """Parse the settings. An empty variable counts as unset; the required ones have been checked at the start.

    Raises:
        StartupError: A variable is invalid. The text has the name of the variable, but not its value.
    """
    values = {setting: environment[name] for setting, name in _VARIABLES.items() if environment.get(name)}
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
    return StartupError(f"{_VARIABLES.get(error.setting, URL)}: {error.reason}")
