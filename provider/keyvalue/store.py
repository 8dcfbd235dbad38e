"""The interface of a store, as the side that faces the host sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from contracts import keyvalue as kv


class LinkStore(Protocol):
    """One link's view of its store: its key prefix and its consistency.

    Who has it holds the store open: the link itself, and each call under way, also when the link has left meanwhile.
    """

    @property
    def unhealthy(self) -> str | None:
        """Why the store does not work as it should; `None` while it does or is being opened for the first time."""
        ...

    @property
    def notice(self) -> str | None:
        """What to know about a store that works; `None`: nothing."""
        ...

    def hold(self) -> LinkStore:
        """Keep the store open until `let_go`."""
        ...

    def let_go(self) -> None:
        """Give the store back; with its last holder it is closed, in the background."""
        ...

    def answer_at_once(self, request: kv.Request) -> Any:
        """Carry out an operation and return what it answers, if nothing has to be waited for; else `NOT_AT_ONCE`.

        Raises:
            errors.StoreError: The store says no, and `perform` would say the same.
        """
        ...

    def begin(self, request: kv.Request, deadline: float, use: Callable[[Any, bool], None]) -> bool:
        """Carry out an operation without a task, if the store can do that now.

        Args:
            request: Of any type of the contract.
            deadline: On the event loop's clock.
            use: Called exactly once, with the answer and whether there is one; if not, `perform` tells why.

        Returns:
            Whether it has begun; if not, `perform` is to be used.

        Raises:
            errors.StoreError: The store says no, and `perform` would say the same.
        """
        ...

    async def perform(self, request: kv.Request, deadline: float) -> Any:
        """Carry out an operation and return what it answers.

        Args:
            request: Of any type of the contract.
            deadline: When the caller must have an answer, on the event loop's clock.

        Raises:
            errors.LinkUnavailableError: The store is not open.
            errors.StoreError: The store says no.
        """
        ...
