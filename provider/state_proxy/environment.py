"""The environment -> what the connector is to be. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from provider.errors import LinkError, StartupError
from provider.keyvalue.link_config import BucketConfig, parse_link
from provider.nats.settings import ConnectionSettings

SOCKET = "CONNECTOR_SOCKET"
BUCKET = "NATS_KV_BUCKET"
PREFIX = "STATE_PREFIX"

_URL = "NATS_URL"
_VARIABLES = {"URL": _URL, "BUCKET": BUCKET, "CREDS_FILE": "NATS_CREDS_FILE"}
"""By the link value that means the same."""


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """Where it listens and what it serves. `prefix` is "" when every key of the bucket is its own."""

    socket_path: str
    connection: ConnectionSettings
    bucket: BucketConfig
    prefix: str


def settings_of(environment: Mapping[str, str]) -> ConnectorSettings:
    """Read the settings; an empty variable is as good as none.

    Raises:
        StartupError: A variable is missing or wrong; names it and not its value.
    """
    for name in (SOCKET, _URL, BUCKET):
        if not environment.get(name):
            raise StartupError(f"{name}: not set")
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
    """Say which variable is at fault when a store cannot be opened."""
    return StartupError(f"{_VARIABLES.get(error.setting, _URL)}: {error.reason}")
