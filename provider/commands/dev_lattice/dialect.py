"""The two families of hosts that a development lattice can stand for."""

from __future__ import annotations

import enum


class Dialect(enum.Enum):
    """The way in which host and provider talk."""

    WASMBUS = "0.x"
    """Signed invocations of actors."""

    WASMCLOUD1 = "1.x"
    """Calls of components over wRPC; nothing is signed."""
