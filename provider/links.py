"""The links in force. Joins the link definitions of the lattice with the stores that keep the data."""

from __future__ import annotations

import logging
from collections.abc import Callable

from contracts.host import HostData
from provider import errors
from provider.config import ProviderConfig, link_config
from provider.keyvalue.link_config import canonical_values
from provider.keyvalue.link_trust import files_named
from provider.keyvalue.pool import StorePool
from provider.keyvalue.store import Store
from provider.lattice.protocol import LinkDeleted, LinkEvent, LinkIgnored, LinkKey, LinkPut
from provider.plain_text import cut
from provider.watches import Watches

_log = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 100
"""An actor's key has 56. Link definitions are not signed, so that anything may stand in its place."""


class Links:
    """The store of each link in force.

    Args:
        config: Defaults of link values.
        host_data: Host data with the lattice and the connection that links use by default.
        pool: Pool that stores are taken from; closed with the links.
        watches: Watches of the links that ask for one; closed with the links.
    """

    def __init__(self, config: ProviderConfig, host_data: HostData, pool: StorePool, watches: Watches) -> None:
        self._config = config
        self._host_data = host_data
        self._pool = pool
        self._watches = watches
        self._links: dict[LinkKey, Store | errors.LinkError] = {}

    def apply(self, event: LinkEvent) -> None:
        """Apply a link event. Returns at once: stores are opened and closed in the background."""
        match event:
            case LinkPut():
                self._put(event)
            case LinkDeleted():
                self._watches.delete(event.key)
                self._release(self._links.pop(event.key, None))
                _log.info("link_deleted", extra=_named(event.key) | {"reason": event.reason})
            case LinkIgnored() if event.reason:
                _log.warning("link_ignored", extra={"reason": event.reason})

    def store(self, key: LinkKey) -> Store | errors.LinkUnavailableError:
        """Return the store that serves a link, or the error for its callers if its settings are not valid.

        The caller holds the store for as long as it waits for an answer.
        """
        found = self._links[key]
        return errors.LinkUnavailableError(str(found)) if isinstance(found, errors.LinkError) else found

    def unhealthy(self) -> str | None:
        """Return the first link that does not work with the reason, or `None` if all work."""
        store = self._first(lambda found: str(found) if isinstance(found, errors.LinkError) else found.unhealthy)
        watch = self._watches.unhealthy()
        return store or (_of_link(*watch) if watch is not None else None)

    def notice(self) -> str | None:
        """Return the first remark about a link that works, or `None` if there is no remark."""
        return self._first(lambda found: None if isinstance(found, errors.LinkError) else found.notice)

    def _first(self, describe: Callable[[Store | errors.LinkError], str | None]) -> str | None:
        for key, found in self._links.items():
            text = describe(found)
            if text is not None:
                return _of_link(key, text)
        return None

    async def close(self) -> None:
        self._links.clear()
        await self._watches.close()
        await self._pool.close()

    def _put(self, event: LinkPut) -> None:
        """Apply the settings of a link. Calls in flight keep the store that they began with."""
        before = self._links.get(event.key)
        try:
            wanted, unknown = link_config(self._config, self._host_data, event.definition)
        except errors.LinkError as error:
            self._links[event.key] = error
            self._watches.suspend(event.key)
            _log.warning("link_failed", extra=_named(event.key) | {"reason": str(error)})
        else:
            self._links[event.key] = self._pool.acquire(wanted)
            self._watches.put(event.key, wanted)
            fields = {"backend": wanted.backend.value, "store": wanted.store_name, "is_change": event.is_change}
            _log.info("link_opened", extra=_named(event.key) | fields)
            self._note_files(event)
            if unknown:
                _log.warning("link_values_unknown", extra=_named(event.key) | {"names": ", ".join(unknown)})
        self._release(before)

    def _note_files(self, event: LinkPut) -> None:
        """Log a link that makes the provider read files, if the operator has not said in which folders they may be."""
        files = files_named(canonical_values(event.definition.values)[0])
        if files and self._config.link_policy.folders is None:
            _log.info("link_names_files", extra=_named(event.key) | {"names": ", ".join(files)})

    def _release(self, before: Store | errors.LinkError | None) -> None:
        if before is not None and not isinstance(before, errors.LinkError):
            before.shared.release()


def _of_link(key: LinkKey, text: str) -> str:
    return f"link {cut(key[2], _SHOWN_CHARACTERS)} of actor {cut(key[0], _SHOWN_CHARACTERS)}: {text}"


def _named(key: LinkKey) -> dict[str, object]:
    actor_id, contract_id, link_name = key
    return {"link_name": link_name, "actor_id": actor_id, "contract_id": contract_id}
