"""The rules for links, configs, health and shutdown under a host of wasmCloud 1.x, as a state machine. Pure.

It owns the table of links. A link becomes the definition that other hosts give: its own side's settings, with the opened
secrets among them. It does not know the meaning of settings, and knows nothing of calls; those are in `exchanges`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from contracts.codec import MalformedError
from contracts.host import HostData, provider_settings
from contracts.lattice import HealthCheckResponse, LinkDefinition, decode_shutdown_host_id, encode_health
from contracts.sealed import SecretValues, decode_secrets
from contracts.secret import Secret
from contracts.wasmcloud1 import (
    WATCHER_INTERFACE,
    WIT_NAMESPACE,
    WIT_PACKAGE,
    ControlSubjects,
    Link,
    LinkRecord,
    Wasmcloud1,
    decode_config,
    decode_deleted_link,
    decode_link,
    join_settings,
)
from provider import errors
from provider.lattice.protocol import (
    LinkDeleted,
    LinkEvent,
    LinkIgnored,
    LinkKey,
    LinkPut,
    ShutdownIgnored,
    ShutdownRequested,
)

STORE_CONTRACT = f"{WIT_NAMESPACE}:{WIT_PACKAGE}"
"""The contract in the key of a link by which a component calls the provider."""

WATCHER_CONTRACT = f"{STORE_CONTRACT}/{WATCHER_INTERFACE}"
"""The contract in the key of a link by which the provider calls a component."""

_START_SECONDS = 5.0
"""Time from the host data to the first message that this process hears, on a busy machine. A link deleted meanwhile is missed."""

_LAG_SECONDS = 1.0
"""Time from a host's record of a link to its message. A record that is older says nothing of a link that arrives now."""

_SECRETS_BEGIN = "SECRET"
"""Configs whose name begins so are references to secrets. Source: wasmCloud v1.9.2 crates/host/src/wasmbus."""


class RecordedLink(Struct, frozen=True):
    """A link of the lattice's records that this process does not have. Its configs have to be read.

    Attributes:
        key: Key that the link will have.
        configs: Names of the configs of the provider's side, in the order in which later ones win.
    """

    key: LinkKey
    configs: list[str]


class Wasmcloud1Protocol:
    """One provider process under a host of 1.x.

    Args:
        host_data: The host data. Its links are not applied here: pass them to `put_link` once the subscriptions exist, so
            that no change is missed in between.
        clock: Seconds since 1970.

    Attributes:
        unchecked: Ids of the components with a link that arrived after their record was read. What deletes a link may
            overtake what puts it: hosts delete at once, and put when they see the record.

    Raises:
        errors.StartupError: The host data is not of a host of 1.x.
    """

    def __init__(self, host_data: HostData, clock: Callable[[], float]) -> None:
        part = _part_of(host_data)
        self._box = part.secret_box
        link_key = host_data.provider_key if self._box is None else self._box.public_key
        lattice, provider_id = host_data.lattice_rpc_prefix, host_data.provider_key
        self.subjects = ControlSubjects(lattice, provider_id, host_data.link_name, link_key)
        self._host_id = host_data.host_id
        self._config, self._secrets = part.config, part.secrets
        self._links: dict[LinkKey, LinkDefinition] = {}
        self._of_source: dict[str, dict[LinkKey, None]] = {}
        """The links in force by the id under which the lattice records them: a record concerns a few of many."""
        self._faults: dict[LinkKey, str] = {}
        self._recorded: dict[LinkKey, list[str]] = {}
        """The names of configs under which the records have had a link."""
        self._revisions: dict[str, int] = {}
        """The revision of the last record of each component that was read."""
        self.unchecked: set[str] = set()
        self._clock = clock
        self._arrived: dict[LinkKey, float] = {}
        """The time at which each link was put, by a message or the host data: no record that is older counts against it."""

    # --- links

    @property
    def links(self) -> dict[LinkKey, LinkDefinition]:
        """The links in force. Callers must not change them."""
        return self._links

    def receive_put_link(self, payload: bytes) -> LinkEvent:
        try:
            return self._put_given(decode_link(payload), self._clock())
        except MalformedError as error:
            return LinkIgnored(str(error))

    def receive_delete_link(self, payload: bytes) -> LinkEvent:
        try:
            link = decode_deleted_link(payload, self.subjects.provider_id)
        except MalformedError as error:
            return LinkIgnored(str(error))
        key = self._key_of(link)
        if isinstance(key, LinkIgnored):
            return key
        return self._delete(key, "deleted") if key in self._links else LinkIgnored("")

    def put_link(self, link: Link) -> LinkEvent:
        """Put a link of the host data. Of one with secrets that do not open, the calls are refused."""
        return self._put_given(link, self._clock() - _START_SECONDS)

    def _put_given(self, link: Link, arrived: float) -> LinkEvent:
        key = self._key_of(link)
        if isinstance(key, LinkIgnored):
            return key
        is_source = key[1] == WATCHER_CONTRACT
        config, sealed = (
            (link.source_config, link.source_secrets) if is_source else (link.target_config, link.target_secrets)
        )
        self._arrived[key] = arrived
        self.unchecked.add(link.source_id)
        self._revisions.pop(link.source_id, None)
        try:
            return self._put(key, join_settings(config, self._open(sealed)))
        except MalformedError as error:
            return self._put(key, dict(config), str(error))

    def _key_of(self, link: Link | LinkRecord) -> LinkKey | LinkIgnored:
        """Return the key of a link that concerns this provider, or the reason why it does not."""
        own_id = self.subjects.provider_id
        if own_id not in (link.source_id, link.target):
            return LinkIgnored("link is for another provider")
        if (link.wit_namespace, link.wit_package) != (WIT_NAMESPACE, WIT_PACKAGE):
            return LinkIgnored(f"link is for another package than {STORE_CONTRACT}")
        if link.target == own_id:
            return link.source_id, STORE_CONTRACT, link.name
        if WATCHER_INTERFACE in link.interfaces or not link.interfaces:  # a deletion may leave them out
            return link.target, WATCHER_CONTRACT, link.name
        return LinkIgnored(f"link with this provider as its source is not for the interface {WATCHER_INTERFACE}")

    def _open(self, sealed: bytes | None) -> SecretValues:
        if not sealed:
            return {}
        if self._box is None:
            raise MalformedError("secrets", "sealed, although the host gave no curve keys")
        return decode_secrets(self._box.open(sealed))

    def _put(self, key: LinkKey, values: dict[str, Any], fault: str = "") -> LinkEvent:
        before = self._links.get(key)
        if before is not None and before.values == values and self._faults.get(key, "") == fault:
            return LinkIgnored("")
        component_id, contract_id, link_name = key
        definition = LinkDefinition(
            actor_id=component_id,
            provider_id=self.subjects.provider_id,
            link_name=link_name,
            contract_id=contract_id,
            values=values,
        )
        self._links[key] = definition
        self._of_source.setdefault(self._source(key), {})[key] = None
        self._faults[key] = fault
        may_watch = contract_id == WATCHER_CONTRACT
        return LinkPut(key, definition, is_change=before is not None, fault=fault, may_watch=may_watch)

    def _delete(self, key: LinkKey, reason: str) -> LinkDeleted:
        del self._links[key], self._faults[key]
        of_source = self._of_source[self._source(key)]
        del of_source[key]
        if not of_source:
            del self._of_source[self._source(key)]
        self._recorded.pop(key, None)
        self._arrived.pop(key, None)
        return LinkDeleted(key, reason)

    def _source(self, key: LinkKey) -> str:
        """Return the id under whose source the lattice records a link."""
        return self.subjects.provider_id if key[1] == WATCHER_CONTRACT else key[0]

    def link_of_call(self, source_id: str, link_name: str) -> LinkKey:
        """Return the link by which a component calls.

        Raises:
            errors.SourceMissingError: The call does not tell the component.
            errors.UnlinkedComponentError: The component has no link of this name.
        """
        key = (source_id, STORE_CONTRACT, link_name)
        if key not in self._links:
            if not source_id:
                raise errors.SourceMissingError
            raise errors.UnlinkedComponentError(source_id, link_name)
        return key

    def link_named(self, source_id: str, name: str) -> LinkKey | None:
        """Return the link of a component by its name, or None if the component has no such link."""
        key = (source_id, STORE_CONTRACT, name)
        return key if key in self._links else None

    # --- the lattice's records

    def receive_record(
        self, component_id: str, revision: int, written: float, links: list[LinkRecord]
    ) -> tuple[list[LinkEvent], list[RecordedLink]]:
        """Compare the links of which a component is the source with those in force.

        A link that no record has had and that arrived after this one was written is left alone.

        Args:
            component_id: Id of the component.
            revision: Revision of its record; that of its removal if it has none any more.
            written: Time of this revision, in seconds since 1970.
            links: The links in the record.

        Returns:
            The links that were deleted, and those whose configs have to be read; see `put_recorded`.
        """
        self.unchecked.discard(component_id)
        if revision <= self._revisions.get(component_id, 0):
            return [], []
        self._revisions[component_id] = revision
        keys = {key: link for link in links if not isinstance(key := self._key_of(link), LinkIgnored)}
        missing = [
            key
            for key in self._of_source.get(component_id, ())
            if key not in keys and (key in self._recorded or written > self._arrived.get(key, 0.0) - _LAG_SECONDS)
        ]
        deleted: list[LinkEvent] = [self._delete(key, "deleted in the lattice's records") for key in missing]
        wanted = []
        for key, link in keys.items():
            configs = link.source_config if key[1] == WATCHER_CONTRACT else link.target_config
            # A config that only has other content now is no other link: a host does not put the link again for it.
            if key not in self._links or self._recorded.get(key, configs) != configs:
                wanted.append(RecordedLink(key, configs))
            else:
                self._recorded[key] = configs
        return deleted, wanted

    def forget_record(self, component_id: str) -> None:
        """Have the record of a component read again: it, or its configs, could not be read."""
        self.unchecked.add(component_id)
        self._revisions.pop(component_id, None)

    def forget_records(self) -> None:
        """Have all records read again: their bucket was made anew, and its revisions begin again."""
        self._revisions.clear()

    def put_recorded(self, link: RecordedLink, configs: Mapping[str, Mapping[str, str]]) -> LinkEvent:
        """Put a link as the lattice's records have it. Secrets are not in them: of a link that needs some, calls are refused.

        Args:
            link: The link.
            configs: Content of each config, by name; one that does not exist is left out.
        """
        self._recorded[link.key] = link.configs
        values: dict[str, Any] = {}
        for name in link.configs:
            values |= configs.get(name, {})
        if any(name.startswith(_SECRETS_BEGIN) for name in link.configs):
            if link.key in self._links:  # with the secrets that it had, and the message that changes it on its way
                return LinkIgnored("")
            return self._put(link.key, values, "secrets of this link were missed: delete the link and put it again")
        return self._put(link.key, values)

    # --- config, health and shutdown

    def receive_config(self, payload: bytes) -> Secret | None:
        """Return the settings of the provider, as `HostData.config_json` has them; None if they are the same as before.

        Raises:
            codec.MalformedError: The payload is not a config.
        """
        config = decode_config(payload)
        if config == self._config:  # a host sends the first one again, right after the start
            return None
        self._config = config
        return provider_settings(config, self._secrets)

    def health(self, unhealthy: str | None, notice: str | None) -> bytes:
        """Encode the answer to a health request; see `LatticeProtocol.health`."""
        message = "; ".join(text for text in (unhealthy, notice) if text)
        return encode_health(HealthCheckResponse(unhealthy is None, message or None), is_json=True)

    def receive_shutdown(self, payload: bytes) -> ShutdownRequested | ShutdownIgnored:
        """Decide whether a shutdown request is from this provider's own host; see `LatticeProtocol.receive_shutdown`."""
        return ShutdownRequested() if decode_shutdown_host_id(payload) == self._host_id else ShutdownIgnored()


def _part_of(host_data: HostData) -> Wasmcloud1:
    if host_data.wasmcloud1 is None:
        raise errors.StartupError("host data is not of a host of wasmCloud 1.x")
    return host_data.wasmcloud1
