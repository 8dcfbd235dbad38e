"""The NATS connections that stores share, one for each set of equal settings, and the setting that keeps one from opening.

A store with the lattice's settings uses the lattice's connection, so that its requests and the replies to the host go out in
one write.
"""

from __future__ import annotations

import asyncio

from contracts.statistics import ConnectionStatistics
from provider import errors
from provider.nats import buckets
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings

OPEN_SECONDS = 5.0
"""Time for connecting, and for opening a store: enough for a cluster to elect a leader, which takes four seconds or more."""


class ConnectionPool:
    """The connections of all stores.

    Args:
        lattice: The lattice's own connection; it must be open for as long as the pool is used.
        connection_name: Name of the connections in the servers' monitoring.
    """

    def __init__(self, lattice: Connection, connection_name: str) -> None:
        self._lattice = lattice
        self._connection_name = connection_name
        self._connections: dict[ConnectionSettings, _SharedConnection] = {}
        self._closed_reconnects = 0
        self._closed_failures = 0

    def statistics(self) -> ConnectionStatistics:
        """Return the counts of all connections together. Those of a connection that was closed are kept."""
        opened = [shared.connection for shared in self._connections.values() if shared.connection is not None]
        connections = [self._lattice, *opened]
        return ConnectionStatistics(
            open=len(connections),
            connected=sum(connection.is_connected for connection in connections),
            reconnects=self._closed_reconnects + sum(connection.reconnects for connection in connections),
            failed_requests=self._closed_failures + sum(connection.failed_requests for connection in connections),
        )

    async def connect(self, settings: ConnectionSettings) -> Connection:
        """Return the connection with these settings; open it if nothing uses it yet. Each call needs one `disconnect`.

        Raises:
            errors.ConnectError: The connection cannot be opened.
        """
        if settings == self._lattice.settings:
            return self._lattice
        shared = self._connections.setdefault(settings, _SharedConnection())
        shared.users += 1
        is_connected = False
        try:
            async with shared.lock:
                if shared.connection is None:
                    connection = Connection(settings, self._connection_name, OPEN_SECONDS)
                    shared.connection = await connection.__aenter__()
            is_connected = True
            return shared.connection
        finally:
            if not is_connected:
                self._leave(settings, shared)

    async def disconnect(self, settings: ConnectionSettings) -> None:
        """Return a connection to the pool; it is closed when its last user does so."""
        if settings == self._lattice.settings:
            return
        shared = self._connections[settings]
        async with shared.lock:
            self._leave(settings, shared)
            if shared.users == 0 and shared.connection is not None:
                connection, shared.connection = shared.connection, None
                self._closed_reconnects += connection.reconnects
                self._closed_failures += connection.failed_requests
                await connection.__aexit__(None, None, None)

    def link_error(self, error: Exception, settings: ConnectionSettings) -> errors.LinkError:
        """Return the error for a store that cannot be opened; it names the link value to correct, if there is one."""
        found = link_error(error, settings)
        is_of_user = isinstance(error, errors.PermissionsError)
        # The lattice's user is not given by a link value.
        return errors.LinkError("", found.reason) if is_of_user and settings == self._lattice.settings else found

    def _leave(self, settings: ConnectionSettings, shared: _SharedConnection) -> None:
        shared.users -= 1
        if shared.users == 0:
            self._connections.pop(settings, None)


class _SharedConnection:
    """A connection, and the number of stores that use it or wait for it to open."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.connection: Connection | None = None
        self.users = 0


def link_error(error: Exception, settings: ConnectionSettings) -> errors.LinkError:
    """Return the error for a store that cannot be opened; it names the link value to correct."""
    match error:
        case errors.LinkError():
            return error
        case errors.ConnectError():
            return _connect_error(error, settings)
        case errors.PermissionsError():
            return errors.LinkError(settings.credentials_setting or "URL", error.reason)
        case errors.NoRespondersError() if settings.js_domain:
            return errors.LinkError("JS_DOMAIN", "no JetStream server of that domain answers")
        case errors.ApiError(err_code=buckets.NOT_ENABLED_FOR_ACCOUNT):
            return errors.LinkError(settings.credentials_setting or "URL", error.description)
        case errors.ApiError():
            return errors.LinkError("BUCKET", str(error))
        case TimeoutError():
            return errors.LinkError("URL", "the server does not answer in time")
    return errors.LinkError("URL", str(error))


def _connect_error(error: errors.ConnectError, settings: ConnectionSettings) -> errors.LinkError:
    if error.is_tls:
        is_our_certificate = "ALERT" in error.reason or "client certificate" in error.reason
        authority = "TLS_CA" if settings.tls_ca else "TLS_CA_FILE"
        return errors.LinkError("TLS_CERT_FILE" if is_our_certificate else authority, error.reason)
    if error.is_dropped and settings.uses_tls:
        which = "another" if settings.tls_cert_file else "a"
        reason = f"{error.reason}, so the server may want {which} client certificate"
        return errors.LinkError("TLS_CERT_FILE", reason)
    if error.is_credentials and not settings.has_credentials:
        return errors.LinkError("URL", f"{error.reason}, and the link gives no credentials")
    return errors.LinkError((error.is_credentials and settings.credentials_setting) or "URL", error.reason)
