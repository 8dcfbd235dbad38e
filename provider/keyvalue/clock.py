"""What time it is: by the clock of a NATS server, as far as it can be known from here, and by this machine's."""

from __future__ import annotations

import time


class ServerClock:
    """The difference last measured between the server's clock and this process's monotonic one.

    Expiry is decided by the server's clock, so that providers whose clocks differ agree on it, and that a step of the
    local clock moves nothing.
    """

    def __init__(self) -> None:
        self._offset_ms = (time.time() - time.monotonic()) * 1000

    def now_ms(self) -> int:
        """Return the server's time in milliseconds since 1970."""
        return int(time.monotonic() * 1000 + self._offset_ms)

    def measured(self, server_ms: int, sent_at: float, received_at: float) -> None:
        """Take a measurement: the server's time, and when it was asked for and told (`time.monotonic`, seconds)."""
        self._offset_ms = server_ms - (sent_at + received_at) * 500


def wall_clock_ms() -> int:
    """Return this machine's time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
