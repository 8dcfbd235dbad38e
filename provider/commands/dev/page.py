"""The page of `keyvalue-nats dev --ui`, if it is wanted: its connection to the lattice and its HTTP server.

The package `ui` and aiohttp are imported only for a page.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from contracts.nkeys import KeyKind
from provider.commands.dev_lattice.actor import Actor
from provider.commands.dev_lattice.component import Component
from provider.commands.dev_lattice.dialect import Dialect
from provider.commands.dev_lattice.identity import DevIdentity
from provider.commands.dev_lattice.lattice_connection import CONNECT_TIMEOUT_SECONDS
from provider.commands.dev_lattice.lattice_host import without_watch
from provider.commands.dev_lattice.provider_process import LogEvent
from provider.commands.dev_lattice.start import DevLattice, link_definition
from provider.commands.errors import MissingExtraError
from provider.commands.instances import Instances
from provider.commands.minting import make_public_key
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings

if TYPE_CHECKING:  # loaded for a page
    from provider.commands.dev.ui.callers import Caller


@dataclass
class Listeners:
    """The readers of the providers' logs besides the terminal.

    Attributes:
        callbacks: Functions that are called with each event.
        hidden_actors: Ids of actors whose calls the terminal does not show.
    """

    callbacks: list[Callable[[LogEvent], None]] = field(default_factory=list)
    hidden_actors: set[str] = field(default_factory=set)


_PAGE_ID = "dev-page"
"""The id of the page's component. A component may have any id."""

Page = Callable[[DevLattice, Listeners], contextlib.AbstractAsyncContextManager[str]]
"""Serves the page of a lattice, and gives its URL."""


@contextlib.asynccontextmanager
async def no_page(lattice: DevLattice, listeners: Listeners) -> AsyncIterator[str]:
    """Serve no page; the URL is ""."""
    yield ""


def page_of(port: int) -> Page:
    """Return a page on a port; 0 picks a free one.

    Raises:
        MissingExtraError: aiohttp is not installed.
    """
    try:
        from provider.commands.dev.ui.server import serving
    except ImportError:
        raise MissingExtraError("ui") from None
    from provider.commands.dev.ui.lattice_view import LatticeView

    @contextlib.asynccontextmanager
    async def page(lattice: DevLattice, listeners: Listeners) -> AsyncIterator[str]:
        settings = ConnectionSettings(servers=(lattice.nats_url,))
        async with Connection(settings, "keyvalue-nats dev --ui", CONNECT_TIMEOUT_SECONDS) as connection:
            reader = await linked_reader(lattice)
            listeners.hidden_actors.add(reader.actor_id)
            instances = Instances(connection, lattice.identity.lattice)
            view = LatticeView(lattice, _caller(lattice, reader), instances)
            listeners.callbacks.append(view.note)
            async with serving(view, port) as url:
                yield url

    return page


async def linked_reader(lattice: DevLattice) -> DevIdentity:
    """Link a second actor or component to the same store, so that the reads of the page are told from the calls of people.

    Both links have the same values but for the watch: the link's name and the lattice decide which store they share.
    """
    is_component = lattice.identity.dialect is Dialect.WASMCLOUD1
    reader = replace(lattice.identity, actor_id=_PAGE_ID if is_component else make_public_key(KeyKind.MODULE))
    await lattice.hosts[0].put_link(link_definition(reader, without_watch(lattice.settings.link_values)))
    return reader


def _caller(lattice: DevLattice, reader: DevIdentity) -> Caller:
    from provider.commands.dev.ui.callers import PageActor, PageComponent

    connection, own = lattice.connection, lattice.identity
    if own.dialect is Dialect.WASMCLOUD1:
        return PageComponent(Component(connection, own), Component(connection, reader))
    return PageActor(lattice.actor, Actor(connection, reader))
