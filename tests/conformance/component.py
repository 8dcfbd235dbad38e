"""A component for the tests that both families share: what an actor asks by operations, a component asks by functions."""

from __future__ import annotations

from typing import Any

from tests.blackbox.lattice_host import CallFailedError
from tests.blackbox.wasmcloud1 import component, host, values
from tests.conformance.actor import Actor


class Component(Actor):
    """A linked component of a host of 1.x.

    Args:
        host: Host that runs the component.
        caller: The component's calls.
        bucket: Name of the bucket in its link, or "".
    """

    def __init__(self, host: host.Wasmcloud1Host, caller: component.Component, bucket: str = "") -> None:
        super().__init__(host, caller.id, bucket)  # type: ignore[arg-type]
        self._caller = caller

    async def function(self, name: str, *arguments: Any, opened_as: str = "default") -> Any:
        """Call a function of the store that the component has opened by a name."""
        return await self._caller.call(name, opened_as, *arguments)

    async def call(self, operation: str, argument: Any) -> Any:
        """Call the function that does the same as an operation, for its argument; answer as the operation would."""
        try:
            return await self._call(operation, argument)
        except values.ComponentError as error:
            raise CallFailedError(error.text) from None

    async def error(self, operation: str, argument: Any) -> str:
        try:
            answer = await self.call(operation, argument)
        except CallFailedError as failed:
            return str(failed)
        raise AssertionError(f"{operation} {argument!r} did not fail, but answered {answer!r}")

    async def _call(self, operation: str, argument: Any) -> Any:
        match operation:
            case "Get":
                value = await self.function("get", argument)
                return {"value": "" if value is None else value.decode(), "exists": value is not None}
            case "Set":
                assert argument["expires"] == 0
                return await self.function("set", argument["key"], argument["value"].encode())
            case "Contains":
                return await self.function("exists", argument)
            case "Del":
                was_there = await self.function("exists", argument)
                await self.function("delete", argument)
                return was_there
            case "Increment":
                return await self.function("increment", argument["key"], argument["value"])
        raise AssertionError(f"components have no {operation}")
