"""The places to look at: each connection that the provider would make, and the links that would use it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from contracts import codec
from contracts.codec import MalformedError
from contracts.host import HostData, HostFamily, decode_host_data
from contracts.lattice import LinkDefinition
from provider import errors
from provider.commands.check.findings import Finding, failed, note, warning
from provider.config import ProviderConfig, lattice_connection, link_config, load_config, load_provider_toml
from provider.keyvalue.given_values import canonical_values
from provider.keyvalue.link_config import LinkConfig, parse_link
from provider.keyvalue.link_trust import join_values
from provider.lattice.claims import ClaimsVerifier
from provider.lattice.protocol import LatticeProtocol, LinkEvent, LinkIgnored, LinkPut
from provider.lattice.wasmcloud1.protocol import Wasmcloud1Protocol
from provider.nats.settings import ConnectionSettings

_HOST_DATA = "host data"


@dataclass(frozen=True)
class Place:
    """One connection of the provider.

    Attributes:
        settings: Its servers and credentials.
        of: The source of the settings, for people: `the lattice`, `the command line`, or links.
        is_of_lattice: Whether calls arrive over it.
        links: Configurations of the links whose stores are reached over it.
    """

    settings: ConnectionSettings
    of: str
    is_of_lattice: bool = False
    links: tuple[LinkConfig, ...] = ()


@dataclass
class Places:
    """Everything that is to be looked at.

    Attributes:
        places: The connections.
        findings: Findings on the settings themselves.
        host_data: The host data, or `None` if a person gave the settings on the command line.
    """

    places: list[Place] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    host_data: HostData | None = None


def places_of_line(content: bytes, environment: Mapping[str, str]) -> Places:
    """Return the places that host data names.

    Args:
        content: The line as a host writes it, or the JSON inside.
        environment: The variables that the provider would have.
    """
    stripped = content.strip()
    line = codec.encode_base64(stripped).encode() if stripped.startswith(b"{") else stripped
    try:
        host_data = decode_host_data(line)
    except MalformedError as error:
        return Places(findings=[failed(_HOST_DATA, error.reason, "Correct the host's configuration.")])
    places = Places(host_data=host_data)
    advice = "Correct it: a host leaves such a link out."
    places.findings += [failed(_HOST_DATA, fault, advice) for fault in host_data.unreadable_links]
    try:
        config = load_config(host_data, environment)
    except errors.ConfigError as error:
        places.findings.append(failed("config", str(error), "Correct it; the provider does not start with it."))
        try:
            places.places.append(Place(lattice_connection(host_data), "the lattice", is_of_lattice=True))
        except errors.ConfigError:
            return places
        return places
    places.findings += [warning("config_json", str(remark), "Correct the setting.") for remark in config.remarks]
    _add(places, config.lattice_connection, _links(places, config, host_data))
    return places


def places_of_values(values: Mapping[str, str], settings: ConnectionSettings, lattice: str, link_name: str) -> Places:
    """Return the places of one link whose values were given on the command line.

    Args:
        values: Link values by the names under which they were given; without any, only the servers are looked at.
        settings: Connection of a link that names no servers of its own.
        lattice: Name of the lattice, which decides the default name of a bucket.
        link_name: Name of the link.

    Raises:
        errors.LinkError: A value is not valid.
    """
    places = Places()
    if not values:
        places.places.append(Place(settings, "the command line"))
        return places
    known = canonical_values(values).known
    defaults = canonical_values(load_provider_toml().link).known
    link = parse_link(
        join_values(defaults, known, settings),
        lattice=lattice,
        link_name=link_name,
        lattice_connection=settings,
        own=known,
    )
    of = "the command line" if link.connection == settings else "the link"
    places.places.append(Place(link.connection, of, links=(link,)))
    return places


def _links(places: Places, config: ProviderConfig, host_data: HostData) -> list[LinkConfig]:
    """Return the valid links of host data; the others become findings."""
    links = []
    for definition, fault in _definitions(places, host_data):
        about = f"link {definition.link_name} of {definition.actor_id}"
        try:
            if fault:
                raise errors.LinkError("", fault)
            link, remarks = link_config(config, host_data, definition)
        except errors.LinkError as error:
            places.findings.append(failed(about, str(error), "Correct the link's values."))
            continue
        places.findings += [warning(about, str(remark), "Correct the link's values.") for remark in remarks]
        links.append(link)
    if not links:
        text = "has no usable link, so no bucket and no cache is looked at"
        places.findings.append(note(_HOST_DATA, text, "Give --link-value and --nats for a link that was put later."))
    return links


def _definitions(places: Places, host_data: HostData) -> list[tuple[LinkDefinition, str]]:
    """Return the links of host data, each with its fault or "". Those that the provider ignores become findings."""
    events: list[tuple[str, LinkEvent]] = []
    if host_data.family is HostFamily.WASMCLOUD1 and host_data.wasmcloud1 is not None:
        components = Wasmcloud1Protocol(host_data, time.time)
        links = host_data.wasmcloud1.links
        events += [(f"link {link.name} of {link.source_id}", components.put_link(link)) for link in links]
    else:
        actors = LatticeProtocol(host_data, ClaimsVerifier(()), None)  # no call is judged
        for link in host_data.link_definitions:
            events.append((f"link {link.link_name} of {link.actor_id}", actors.put_definition(link)))
    for about, event in events:
        if isinstance(event, LinkIgnored) and event.reason:
            advice = "Correct the link, or take it from the host data."
            places.findings.append(warning(about, f"is ignored by the provider: {event.reason}", advice))
    return [(event.definition, event.fault) for _, event in events if isinstance(event, LinkPut)]


def _add(places: Places, lattice: ConnectionSettings, links: list[LinkConfig]) -> None:
    """Add the lattice's connection with its links, and one for each other connection of links."""
    by_connection: dict[ConnectionSettings, list[LinkConfig]] = {lattice: []}
    for link in links:
        by_connection.setdefault(link.connection, []).append(link)
    for settings, found in by_connection.items():
        place = Place(settings, "the links with their own connection", links=tuple(dict.fromkeys(found)))
        places.places.append(replace(place, of="the lattice", is_of_lattice=True) if settings == lattice else place)
