"""The links in force. Joins the link definitions of the lattice with the stores that keep the data."""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec import structs

from contracts.host import HostData, HostFamily
from contracts.statistics import BucketStatistics, CacheStatistics, ConnectionStatistics, WatchStatistics
from provider import errors
from provider.config import ProviderConfig, link_config
from provider.keyvalue.given_values import Remark, canonical_values
from provider.keyvalue.link_config import LinkConfig
from provider.keyvalue.link_trust import files_named
from provider.keyvalue.pool import StorePool
from provider.keyvalue.store import Store
from provider.lattice.protocol import LinkDeleted, LinkEvent, LinkIgnored, LinkKey, LinkPut
from provider.plain_text import cut
from provider.watches import Watches

_log = logging.getLogger(__name__)

SHOWN_CHARACTERS = 100
"""An actor's key has 56. Link definitions are not signed, so that anything may stand in its place."""

_MOST_NOTICES = 10
"""Remarks in one answer about health, whose message must stay readable for a person."""


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
        self._caller = "component" if host_data.family is HostFamily.WASMCLOUD1 else "actor"
        self._pool = pool
        self._watches = watches
        self._links: dict[LinkKey, Store | errors.LinkError] = {}
        self._puts: dict[LinkKey, LinkPut] = {}
        """The last event of each link, which is applied again when the defaults change."""
        self._wanted: dict[LinkKey, LinkConfig] = {}
        """The settings of each link that are valid."""
        self._remarks: dict[LinkKey, list[Remark]] = {}
        """Remarks on the values of a link, without those that its store makes."""
        self._logged: dict[LinkKey, list[Remark]] = {}
        """The remarks of a link that the log has already."""

    def apply(self, event: LinkEvent) -> None:
        """Apply a link event. Returns at once: stores are opened and closed in the background."""
        match event:
            case LinkPut():
                self._put(event)
            case LinkDeleted():
                self._watches.delete(event.key)
                self._unlink(self._links.pop(event.key, None))
                self._puts.pop(event.key, None)
                self._wanted.pop(event.key, None)
                self._remarks.pop(event.key, None)
                self._logged.pop(event.key, None)
                _log.info("link_deleted", extra=_named(event.key) | {"reason": event.reason})
            case LinkIgnored() if event.reason:
                _log.warning("link_ignored", extra={"reason": event.reason})

    def store(self, key: LinkKey) -> Store | errors.LinkUnavailableError:
        """Return the store that serves a link, or the error for its callers if its settings are not valid.

        The caller holds the store for as long as it waits for an answer.
        """
        found = self._links[key]
        return errors.LinkUnavailableError(str(found)) if isinstance(found, errors.LinkError) else found

    def config(self, key: LinkKey) -> LinkConfig:
        """Return the settings of a link that `store` has returned a store for."""
        return self._wanted[key]

    def opens_by(self, key: LinkKey, name: str) -> bool:
        """Tell whether a component may open the store of a link by a name; false also for a link that has no store."""
        return key in self._wanted and self._wanted[key].opens_by(name, key[2])

    def configure(self, config: ProviderConfig) -> int:
        """Take other defaults, and reopen the links for which they make a difference; return the number of these."""
        self._config = config
        changed = [put for put in self._puts.values() if self._is_changed(put)]
        for put in changed:
            self._put(structs.replace(put, is_change=True))
        return len(changed)

    def _is_changed(self, put: LinkPut) -> bool:
        """Tell whether the settings of a link are other ones than those in force, or whether it has none."""
        try:
            wanted, remarks = self._wanted_of(put)
        except errors.LinkError:
            return True
        return wanted != self._wanted.get(put.key) or remarks != self._remarks.get(put.key)

    def items(self) -> list[tuple[LinkKey, Store | errors.LinkError]]:
        """Return the links in force, each with its store or with the error of its settings."""
        return list(self._links.items())

    def watch_statistics(self, key: LinkKey) -> WatchStatistics | None:
        """Return the statistics of a link's watch; None if it has no watch."""
        return self._watches.statistics(key)

    def store_statistics(self) -> tuple[list[BucketStatistics], list[CacheStatistics]]:
        """Return the statistics of all buckets and of all caches."""
        return self._pool.statistics()

    def connection_statistics(self) -> ConnectionStatistics:
        """Return the statistics of all connections together."""
        return self._pool.connection_statistics()

    def unhealthy(self) -> str | None:
        """Return the first link that does not work with the reason, or `None` if all work."""
        store = self._first(lambda found: str(found) if isinstance(found, errors.LinkError) else found.unhealthy)
        watch = self._watches.unhealthy()
        return store or (self._of_link(*watch) if watch is not None else None)

    def notice(self) -> str | None:
        """Return the remarks on the operator's settings and on links that work, or `None`."""
        texts = [f"{self._config.source}: {remark}" for remark in self._config.remarks]
        for key, found in self._links.items():
            if isinstance(found, errors.LinkError):
                continue
            texts += [self._of_link(key, found.notice)] if found.notice else []
            texts += [self._of_link(key, str(remark)) for remark in self._all_remarks(key, found)]
        more = [f"and {len(texts) - _MOST_NOTICES} more"] if len(texts) > _MOST_NOTICES else []
        return "; ".join(texts[:_MOST_NOTICES] + more) or None

    def _first(self, describe: Callable[[Store | errors.LinkError], str | None]) -> str | None:
        for key, found in self._links.items():
            text = describe(found)
            if text is not None:
                return self._of_link(key, text)
        return None

    def _of_link(self, key: LinkKey, text: str) -> str:
        return f"link {cut(key[2], SHOWN_CHARACTERS)} of {self._caller} {cut(key[0], SHOWN_CHARACTERS)}: {text}"

    async def close(self) -> None:
        self._links.clear()
        self._puts.clear()
        self._wanted.clear()
        self._remarks.clear()
        await self._watches.close()
        await self._pool.close()

    def _put(self, event: LinkPut) -> None:
        """Apply the settings of a link. Calls in flight keep the store that they began with."""
        before = self._links.get(event.key)
        self._puts[event.key] = event
        try:
            wanted, remarks = self._wanted_of(event)
            store = self._pool.acquire(wanted)
        except errors.LinkError as error:
            self._links[event.key] = error
            self._wanted.pop(event.key, None)
            self._remarks.pop(event.key, None)
            self._watches.suspend(event.key)
            _log.warning("link_failed", extra=_named(event.key) | {"reason": str(error)})
        else:
            self._links[event.key] = store
            self._wanted[event.key] = wanted
            self._remarks[event.key] = remarks
            self._watches.put(event.key, wanted)
            fields = {"backend": wanted.backend.value, "store": wanted.store_name, "is_change": event.is_change}
            _log.info("link_opened", extra=_named(event.key) | fields)
            self._note_files(event)
        self._unlink(before)
        self._log_remarks(event.key)

    def _wanted_of(self, event: LinkPut) -> tuple[LinkConfig, list[Remark]]:
        """Return the settings of a link, and remarks on its values.

        Raises:
            errors.LinkError: A value is wrong, or the link cannot be opened.
        """
        if event.fault:
            raise errors.LinkError("secrets", event.fault)
        wanted, remarks = link_config(self._config, self._host_data, event.definition)
        if wanted.watch.patterns and not event.may_watch:
            wanted = structs.replace(wanted, watch=structs.replace(wanted.watch, puts=(), ends=()))
            remarks = [
                *remarks,
                Remark("WATCH", "has no effect here: it belongs on a link from the provider to a component"),
            ]
        return wanted, remarks

    def _all_remarks(self, key: LinkKey, store: Store) -> list[Remark]:
        return self._remarks.get(key, []) + store.remarks

    def _log_remarks(self, key: LinkKey) -> None:
        """Log new remarks on a link, and those on other links of its store, which it may contradict."""
        store = self._links[key]
        if isinstance(store, errors.LinkError):
            return
        others = self._links.items() if store.remarks else ()
        sharing = {
            other for other, found in others if not isinstance(found, errors.LinkError) and found.shared is store.shared
        }
        for other in [key, *(sharing - {key})]:
            found = self._links[other]
            assert not isinstance(found, errors.LinkError)
            remarks = self._all_remarks(other, found)
            for remark in remarks:
                if remark not in self._logged.get(other, []):
                    _log.warning(
                        "link_warning", extra=_named(other) | {"setting": remark.setting, "reason": remark.reason}
                    )
            self._logged[other] = remarks

    def _note_files(self, event: LinkPut) -> None:
        """Log a link that makes the provider read files, if the operator has not said in which folders they may be."""
        files = files_named(canonical_values(event.definition.values).known)
        if files and self._config.link_policy.folders is None:
            _log.info("link_names_files", extra=_named(event.key) | {"names": ", ".join(files)})

    def _unlink(self, before: Store | errors.LinkError | None) -> None:
        if before is not None and not isinstance(before, errors.LinkError):
            before.unlink()


def _named(key: LinkKey) -> dict[str, object]:
    actor_id, contract_id, link_name = key
    return {"link_name": link_name, "actor_id": actor_id, "contract_id": contract_id}
