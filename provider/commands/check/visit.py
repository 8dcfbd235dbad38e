"""The questions that are asked over one connection: permissions, JetStream, buckets, clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from contracts.host import HostData, HostFamily
from provider import errors
from provider.commands.check import permissions as needed
from provider.commands.check.account import (
    Account,
    account_findings,
    ask_server,
    clock_finding,
    decode_account,
    middle_ms,
)
from provider.commands.check.findings import Finding, State, failed, heavier, note, ok
from provider.commands.check.permissions import Need, Permission, weights
from provider.commands.check.places import Place
from provider.commands.check.probes import lacking
from provider.commands.check.streams import bucket_findings, missing_bucket, pages_findings
from provider.keyvalue.bucket.pages.pages_settings import pages_bucket
from provider.keyvalue.connections import link_error
from provider.keyvalue.link_config import LinkConfig
from provider.keyvalue.link_values import Backend
from provider.nats.buckets import NOT_ENABLED, NOT_ENABLED_FOR_ACCOUNT, STREAM_NOT_FOUND, stream_name
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream, StreamInfo

T = TypeVar("T")

_PERMISSION_ADVICE = "Add it to the user's permissions; docs/operating.md lists all of them."

_UNAVAILABLE = 503
"""The code of JetStream's answers while the cluster has no leader."""

_DISABLED = (NOT_ENABLED, NOT_ENABLED_FOR_ACCOUNT)
"""Answers with the same code, for another reason."""

_UNKNOWN = weights(None, None, is_created=True, is_known=False)
"""The weights of missing permissions while the server cannot be asked for streams."""


class Visit:
    """One connection that works.

    Args:
        place: The place that the connection is for.
        host_data: The host data; `None` without it.
        lattice: Name of the lattice without host data.
        connection: The connection.
        timeout_seconds: Limit for each answer.
        report: Called with each finding.
    """

    def __init__(
        self,
        place: Place,
        host_data: HostData | None,
        lattice: str,
        connection: Connection,
        timeout_seconds: float,
        report: Callable[[Finding], None],
    ) -> None:
        self._report = report
        self._place = place
        self._host_data = host_data
        self._lattice = lattice if host_data is None else host_data.lattice_rpc_prefix
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._jetstream = JetStream(connection, place.settings.js_domain)
        self._lacks: Mapping[Permission, bool | None] = {}
        self._has_clock = False
        self._account: Account | None = None
        self._is_alone = False
        """True if the server is known to be in no cluster, and is the one that keeps the buckets."""

    @property
    def _is_of_components(self) -> bool:
        return self._host_data is not None and self._host_data.family is HostFamily.WASMCLOUD1

    async def run(self) -> None:
        """Ask everything, and report the findings."""
        common = self._placed([*needed.inbox(), *self._of_lattice()])
        by_link = {link: self._placed(self._of_link(link)) for link in self._place.links}
        every = [*common, *(item for items in by_link.values() for item in items)]
        self._lacks = await lacking(self._connection, every, self._timeout_seconds)
        self._grade(common, _UNKNOWN)
        if self._place.is_of_lattice and not self._is_of_components:
            text = "is not probed, as that needs a call; answers to calls and health need it"
            self._report(note("permission allow_responses", text))
        if self._lacks[needed.inbox()[0]]:
            self._report(note("jetstream", "is not asked: without the permission for the inbox no answer arrives"))
            for items in by_link.values():
                self._grade(items, _UNKNOWN)
            return
        has_buckets = any(link.backend is Backend.BUCKET for link in by_link)
        level = await self._look_at_account() if has_buckets or not by_link else 0
        if found := await ask_server(self._connection, self._deadline()):
            server, own_ms = found
            self._is_alone = not server.cluster and not self._place.settings.js_domain
            self._compare_clock(server.time, own_ms)
        for link, items in by_link.items():
            if link.backend is Backend.CACHE:
                self._grade(items, _UNKNOWN)
                text = "keeps its values in the instances; `keyvalue-nats top` shows them"
                self._report(note(f"cache {link.store_name}", text))
            else:
                await self._look_at_bucket(link, items, level)
        if not self._has_clock:
            self._report(note("clock", "is not compared: no answer that this user may ask for has the server's time"))

    # --- permissions

    def _of_lattice(self) -> list[Permission]:
        if self._host_data is None or not self._place.is_of_lattice:
            return []
        data = self._host_data
        if self._is_of_components:
            return needed.of_lattice_of_components(self._lattice, data.provider_key)
        return needed.of_lattice(self._lattice, data.provider_key, data.link_name)

    def _of_link(self, link: LinkConfig) -> list[Permission]:
        if link.backend is Backend.CACHE:
            return needed.of_cache(link.cache)
        items = needed.of_bucket(link.bucket, link.key_prefix)
        if link.watch.patterns:
            items += needed.of_watch(link.bucket.name, self._lattice, is_of_components=self._is_of_components)
        return items

    def _placed(self, items: Iterable[Permission]) -> list[Permission]:
        return [needed.in_domain(item, self._place.settings.js_domain) for item in items]

    def _grade(self, items: Iterable[Permission], by_need: Mapping[Need, State]) -> None:
        """Report each permission once, by the weightiest of its reasons."""
        heaviest: dict[tuple[str, str], Permission] = {}
        for item in items:
            before = heaviest.setdefault((item.verb, item.pattern), item)
            if heavier(by_need[before.need], by_need[item.need]) is not by_need[before.need]:
                heaviest[item.verb, item.pattern] = item
        for item in heaviest.values():
            self._report(self._graded(item, by_need[item.need]))

    def _graded(self, item: Permission, weight: State) -> Finding:
        about = f"permission {item.verb} {item.pattern}"
        lacks = self._lacks[item]
        if lacks is None:
            return note(about, "cannot be probed: the server gives no hint")
        if not lacks:
            return ok(about, "granted")
        text = f"missing; needed {item.need.value}"
        return note(about, text) if weight is State.NOTE else Finding(weight, about, text, _PERMISSION_ADVICE)

    # --- JetStream

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_seconds

    async def _ask_account(self) -> Account:
        return decode_account(await self._jetstream.api("INFO", None, self._deadline()))

    async def _asked(self, about: str, question: Callable[[], Awaitable[T]]) -> T | Finding:
        """Ask, and return the answer, or a finding in its place."""
        try:
            return await question()
        except errors.PermissionsError:
            return note(about, "is not asked: the permission for it is missing")
        except (errors.NatsError, TimeoutError) as error:
            reason = link_error(error, self._place.settings).reason
            if isinstance(error, errors.RequestTimeoutError):
                return failed(about, "no answer in time", "A stream may have no leader: look at its servers.")
            if isinstance(error, errors.ApiError) and error.code == _UNAVAILABLE and error.err_code not in _DISABLED:
                return failed(about, reason, "Start the cluster's other servers: a majority of them must run.")
            return failed(about, reason, "Enable JetStream for the account, or correct the domain.")

    async def _stream(self, name: str) -> StreamInfo | None:
        try:
            return await self._jetstream.stream_info(name, self._deadline())
        except errors.ApiError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise
            return None

    async def _look_at_account(self) -> int:
        """Report on the account; return the API level of its server."""
        account = await self._asked("jetstream", self._ask_account)
        if isinstance(account, Finding):
            self._report(account)
            return 0
        self._account = account
        self._report_all(account_findings(account, self._place.settings.js_domain))
        return account.api.level

    async def _look_at_bucket(self, link: LinkConfig, items: list[Permission], level: int) -> None:
        config = link.bucket
        sent = time.time()
        info = await self._asked(f"bucket {config.name}", lambda: self._stream(stream_name(config.name)))
        own_ms = middle_ms(sent)
        if isinstance(info, Finding):
            self._report(info)
            self._grade(items, _UNKNOWN)
            return
        pages_name = stream_name(pages_bucket(config.name))
        pages = await self._asked(f"pages of {config.name}", lambda: self._stream(pages_name))
        of_bucket = info.config if info else None
        of_pages = pages.config if isinstance(pages, StreamInfo) else None
        self._grade(items, weights(of_bucket, of_pages, is_created=config.is_created, is_known=True))
        if info is None:
            self._report(missing_bucket(config, self._account, is_alone=self._is_alone))
            return
        self._report_all(bucket_findings(config, info, level))
        if isinstance(pages, Finding):
            self._report(pages)
        else:
            self._report_all(pages_findings(config.name, info.config, pages))
        if info.server_time and not self._has_clock:
            self._compare_clock(info.server_time, own_ms)

    def _compare_clock(self, server: str, own_ms: float) -> None:
        self._has_clock = True
        self._report(clock_finding(server, own_ms))

    def _report_all(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self._report(finding)
