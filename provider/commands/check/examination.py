"""The examination of all places. Each connection that works is a visit. Everything is asked; nothing is written."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping

from msgspec import structs

from provider import errors
from provider.commands.check.findings import Finding, State, failed, note
from provider.commands.check.key_findings import key_findings
from provider.commands.check.places import Places
from provider.commands.check.servers import NAME, look_at_server
from provider.commands.check.visit import Visit
from provider.nats.connection import Connection


async def examine(
    places: Places, lattice: str, hints: Mapping[str, str], timeout_seconds: float, report: Callable[[Finding], None]
) -> None:
    """Look at everything.

    Args:
        places: The places to look at.
        lattice: Name of the lattice, for the permissions of a link that was given on the command line.
        hints: Link value of a connection -> the name under which a person has given it.
        timeout_seconds: Limit for connecting and for each answer.
        report: Called with each finding when it is made.
    """
    for finding in places.findings:
        report(finding)
    if places.host_data is not None:
        for finding in key_findings(places.host_data):
            report(finding)
    for place in places.places:
        looks = (look_at_server(place.settings, server, timeout_seconds, hints) for server in place.settings.servers)
        by_server = await asyncio.gather(*looks)
        is_usable = any(finding.state is State.OK for findings in by_server for finding in findings)
        for finding in itertools.chain.from_iterable(by_server):
            # The provider works as long as one server does.
            report(
                structs.replace(finding, state=State.WARNING)
                if is_usable and finding.state is State.FAILED
                else finding
            )
        if not is_usable:
            report(note(f"connection of {place.of}", "no server can be used, so nothing behind it is looked at"))
            continue
        try:
            async with Connection(place.settings, NAME, timeout_seconds) as connection:
                await Visit(place, places.host_data, lattice, connection, timeout_seconds, report).run()
        except (errors.ConnectError, errors.NotConnectedError) as error:
            text = f"lost meanwhile: {error}"
            report(failed(f"connection of {place.of}", text, "Look at the server's log, and check again."))
