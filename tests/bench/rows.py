"""The rows of a measurement, and the lines of the scorecard. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import structs

from tests.bench.load_generator import Measurement
from tests.bench.workloads import WorkloadName


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A workload at one number of invocations in flight.

    Attributes:
        provider_cpu_us: CPU time per operation of all provider processes that may have served it, without their helpers.
        others_cpu_us: CPU time per operation of the provider processes that only receive the changes.
    """

    workload: WorkloadName
    in_flight: int
    provider_cpu_us: float
    others_cpu_us: float = 0.0
    measured: Measurement

    @property
    def per_second(self) -> float:
        return self.measured.count / self.measured.seconds


class ScoreLine(msgspec.Struct, frozen=True):
    """A line of the scorecard: a ratio and its limit. `is_at_most` tells whether the limit is the greatest allowed value."""

    name: str
    ratio: float
    limit: float
    is_at_most: bool
    detail: str = ""

    @property
    def is_met(self) -> bool:
        return self.ratio <= self.limit if self.is_at_most else self.ratio >= self.limit


def median_row(rounds: list[Row], by: Callable[[Row], float] = lambda row: row.provider_cpu_us) -> Row:
    """Return the round in the middle, by CPU time or another figure, with the errors of all rounds: noise is dropped, a fault is not."""
    middle = sorted(rounds, key=by)[len(rounds) // 2]
    measured = structs.replace(
        middle.measured,
        errors=sum(row.measured.errors for row in rounds),
        first_error=next((row.measured.first_error for row in rounds if row.measured.first_error), ""),
        is_exact=all(row.measured.is_exact for row in rounds),
    )
    return structs.replace(middle, measured=measured)
