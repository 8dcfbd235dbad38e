from contracts.keyvalue import Del, Set
from tests.bench.cache.cache_report import (
    CacheReport,
    CacheSize,
    CacheSpeed,
    Churn,
    Merging,
    Propagation,
    cache_scorecard,
)
from tests.bench.load_generator import Measurement
from tests.bench.report import Report, scorecard
from tests.bench.rows import Row
from tests.bench.workloads import KEYS, WorkloadName, workload

PROPAGATION = Propagation(
    writes=100, visible_p50_us=150, visible_p99_us=400, round_trip_p50_us=145, turn_p50_us=10
)  # 2 x 145 + 10 = 300
MERGING = Merging(events_per_message=64, mixed_per_cpu_second=60_000, sets_per_cpu_second=70_000)
SIZE = CacheSize(
    keys=100_000,
    value_bytes=100,
    resident_megabytes=90,
    joiner_megabytes=95,
    joins=3,
    join_seconds=2.5,
    keys_lacking=0,
    idle_p99_us=500,
    joining_p99_us=3000,
    joining_gets=1000,
)
CHURN = Churn(operations=90_000, keys=1000, seconds=30, first_megabytes=[40, 40], last_megabytes=[40, 44])


def row(name: WorkloadName, in_flight: int, cpu_us: float, p50_us: float) -> Row:
    measured = Measurement(
        count=100,
        seconds=1,
        p50_us=p50_us,
        p99_us=900,
        errors=0,
        first_error="",
        is_exact=True,
        own_cpu_seconds=0.1,
    )
    return Row(workload=name, in_flight=in_flight, provider_cpu_us=cpu_us, others_cpu_us=7, measured=measured)


def speed(*rows: Row) -> CacheSpeed:
    return CacheSpeed(
        rows=list(rows),
        signature_cpu_us=40,
        echo_p50_us=160,
        reads_elsewhere=100,
        older_elsewhere=3,
        lone_set_p50_us=230,
    )


def test_every_promise_of_a_cache_is_a_line_of_the_scorecard() -> None:
    rows = [
        row(WorkloadName.GET, 1, 80, 200),
        row(WorkloadName.GET, 64, 50, 6000),
        row(WorkloadName.SET, 1, 80, 300),
        row(WorkloadName.SET, 64, 60, 6000),
    ]
    report = CacheReport(speed=speed(*rows), propagation=PROPAGATION, merging=MERGING, size=SIZE, churn=CHURN)
    judged = list(cache_scorecard(report))
    assert [round(target.ratio, 2) for target in judged] == [1.25, 1.5, 1, 1.5, 0.5, 60_000, 90, 2.5, 0, 6, 1.1]
    assert [target.is_met for target in judged] == [True, False, True, False, *[True] * 5, False, False]
    assert "7 µs on the other" in judged[1].detail
    assert "no other instance up 230 µs" in judged[3].detail


def test_parts_of_a_cache_that_were_not_measured_have_no_score() -> None:
    report = Report(cache=CacheReport(speed=speed(), propagation=PROPAGATION, merging=MERGING))
    assert [target.limit for target in scorecard(report)] == [1, 50_000]


def test_churn_keeps_half_of_the_keys_alive() -> None:
    made = workload(WorkloadName.CHURN, 4 * KEYS, "t").measured
    alive: set[str] = set()
    for request in made:
        assert isinstance(request, Set | Del)
        alive = alive | {request.key} if isinstance(request, Set) else alive - {request.key}
    assert len(made) == 4 * KEYS
    assert len(alive) == KEYS // 2


def test_filling_sets_every_key_once_to_a_value_of_its_own() -> None:
    made = [request for request in workload(WorkloadName.FILL, 3000, "t").measured if isinstance(request, Set)]
    assert len({request.key for request in made}) == 3000
    assert len({request.value for request in made}) == 3000
    assert {len(request.value) for request in made} == {100}
