"""The part of a host that all families share: a connection to the lattice, and at most one provider process."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nats.aio.client import Client

from tests.blackbox.nats.patient_client import patient_client
from tests.blackbox.provider_process import ProviderProcess


class ConnectedHost:
    """A host as an async context manager. At the end its provider process is ended and its connection closed.

    Args:
        server_url: URL of the lattice's nats-server.
        folder: Folder for the output of the provider.
        client_options: Options of the host's own connection, as nats-py has them.
    """

    def __init__(self, server_url: str, folder: Path, client_options: dict[str, Any] | None = None) -> None:
        self._server_url = server_url
        self._folder = folder
        self._client_options = client_options or {}
        self._client: Client | None = None
        self._provider: ProviderProcess | None = None

    async def __aenter__(self) -> Self:
        self._client = await patient_client(self._server_url, **self._client_options)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._provider is not None:
            self._provider.end()
        if self._client is not None:
            await self._client.close()

    @property
    def client(self) -> Client:
        assert self._client is not None, "the host is not connected"
        return self._client

    @property
    def provider(self) -> ProviderProcess:
        assert self._provider is not None, "no provider was started"
        return self._provider
