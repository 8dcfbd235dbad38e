"""The interface of a store: a request and a call go in, exactly one answer comes out.

The side that faces the host knows only this module of the key-value side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from contracts.keyvalue import Request
from provider import errors
from provider.keyvalue.given_values import Remark
from provider.keyvalue.link_config import LinkConfig
from provider.keyvalue.shared_settings import StoreConfig, contradictions, joined_settings

_T = TypeVar("_T")


class Call(Protocol):
    """One operation under way. Exactly one of `answer` and `fail` takes effect; later calls of either do nothing."""

    @property
    def deadline(self) -> float:
        """The latest moment at which the caller can use an answer, on the event loop's clock."""
        ...

    @property
    def is_done(self) -> bool:
        """True once the caller has been answered, by the store or because it took too long."""
        ...

    async def take_room(self, size_bytes: int) -> None:
        """Wait for room in memory for a large answer, unless the call has taken that much before. Its end gives it back.

        Raises:
            TimeoutError: There was no room until the deadline.
        """
        ...

    def answer(self, result: Any) -> None:
        """Answer the caller with the operation's result."""
        ...

    def fail(self, error: BaseException) -> None:
        """Answer the caller with an error.

        Args:
            error: A `StoreError` or `LinkUnavailableError` is shown to the caller as it is. A `CancelledError` means
                that the store was closed first. Anything else is a defect: it is logged, and the caller is told its type.
        """
        ...


class FutureCall:
    """A call of a coroutine, which awaits its answer; a `Call`.

    Args:
        deadline: Time by which the coroutine must have an answer, on the event loop's clock.
        future: Takes the result or the error.
    """

    __slots__ = ("deadline", "future")

    def __init__(self, deadline: float, future: asyncio.Future[Any]) -> None:
        self.deadline = deadline
        self.future = future

    @property
    def is_done(self) -> bool:
        return self.future.done()

    async def take_room(self, size_bytes: int) -> None:
        """Take none: what a coroutine waits for are changes, which have no large answers."""

    def answer(self, result: Any) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(errors.bare(error))  # its frames hold this call, and so the future


class SharedStore(Generic[StoreConfig]):
    """A store that several links share. It stays open as long as a link or a call holds it."""

    def __init__(self, on_idle: Callable[[], None]) -> None:
        self._holders = 0
        self._on_idle = on_idle
        self._links: dict[StoreConfig, int] = {}
        """The settings of the links that hold the store, the oldest first, with the number of links."""

    @property
    def name(self) -> str:
        """Name of the bucket, or state subject of the cache."""
        raise NotImplementedError

    @property
    def link_count(self) -> int:
        """Number of links that hold the store."""
        return sum(self._links.values())

    def configure(self, config: StoreConfig) -> None:
        """Take over the settings that all links of the store add up to."""
        raise NotImplementedError

    def link(self, config: StoreConfig) -> None:
        """Hold the store for a link with these settings."""
        self._links[config] = self._links.get(config, 0) + 1
        self.hold()
        self.configure(joined_settings(self._links))

    def unlink(self, config: StoreConfig) -> None:
        """Give up the hold of a link with these settings."""
        self._links[config] -= 1
        if not self._links[config]:
            del self._links[config]
            if self._links:
                self.configure(joined_settings(self._links))
        self.release()

    def contradictions(self, config: StoreConfig) -> list[Remark]:
        """Return a remark for each setting of a link that another link of the store gives with another value."""
        return contradictions(config, self._links)

    def hold(self) -> None:
        """Keep the store open until the matching `release`."""
        self._holders += 1

    def release(self) -> None:
        """End one `hold`. The last one closes the store, in the background."""
        self._holders -= 1
        if not self._holders:
            self._on_idle()


class Store(Protocol):
    """One link's view of a store: with the link's key prefix and consistency."""

    @property
    def config(self) -> LinkConfig:
        """The settings of the link."""
        ...

    @property
    def shared(self) -> SharedStore[Any]:
        """The store behind this view."""
        ...

    @property
    def backend(self) -> str:
        """The kind of the store, as the link value `BACKEND` names it."""
        ...

    @property
    def unhealthy(self) -> str | None:
        """The reason the store does not work, or `None` if it works or is being opened for the first time."""
        ...

    @property
    def notice(self) -> str | None:
        """A remark about a store that works, or `None` if there is nothing to remark."""
        ...

    @property
    def remarks(self) -> list[Remark]:
        """Remarks on settings of the link that the store does not have."""
        ...

    def unlink(self) -> None:
        """Give up the link's hold of the store."""
        ...

    def submit(self, request: Request, call: Call) -> None:
        """Carry out an operation.

        Exactly one of `call.answer` and `call.fail` is called: before this method returns if nothing has to be waited
        for, else later. The caller holds the store open until then.
        """
        ...


class Fails(Protocol):
    """A call, or a part of one, that may end in an error."""

    @property
    def is_done(self) -> bool:
        """True once it has ended."""
        ...

    def fail(self, error: BaseException) -> None:
        """Take the error; see `Call.fail`."""
        ...


async def complete(call: Fails, work: Awaitable[_T], then: Callable[[_T], None]) -> None:
    """Wait for the work that a call needs and pass its result on, or fail the call with the error that it ends in.

    Args:
        call: Call that the work is done for.
        work: Awaited exactly once.
        then: Called with the result, unless the call has ended meanwhile: its caller may have been told that nothing was
            changed. `call.answer` where the result is the answer.
    """
    try:
        result = await work
        if not call.is_done:
            then(result)
    except asyncio.CancelledError as error:
        call.fail(error)
        raise
    except Exception as error:  # noqa: BLE001  (the one place: a defect in one call must not end the provider)
        call.fail(error)
