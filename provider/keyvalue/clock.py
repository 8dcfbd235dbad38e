"""The time: by the clock of a NATS server, as far as it can be known from here, and by this machine's clock."""

from __future__ import annotations

import time


class ServerClock:
    """The server's clock, computed from the difference to this process's monotonic clock that was measured last.

    Expiry is decided by the server's clock. So providers whose clocks differ agree on it, and a step of the local clock has
    no effect. Until the first measurement, it is this machine's clock.
    """

    def __init__(self) -> None:
        self._offset_ms = (time.time() - time.monotonic()) * 1000

    def now_ms(self) -> int:
        """Return the server's time in milliseconds since 1970."""
        return int(time.monotonic() * 1000 + self._offset_ms)

    def measured(self, server_ms: int, sent_at: float, received_at: float) -> None:
        """Take a measurement.

        Args:
            server_ms: The server's time, in milliseconds since 1970.
            sent_at: The time at which the request for it was sent, by `time.monotonic`, in seconds.
            received_at: The time at which the answer arrived, by the same clock.
        """
        # The server answered about halfway between the two; 500 is 1000 milliseconds halved.
        self._offset_ms = server_ms - (sent_at + received_at) * 500


def wall_clock_ms() -> int:
    """Return this machine's time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
