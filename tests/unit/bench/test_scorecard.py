from msgspec import structs

from provider.keyvalue.link_values import Backend
from tests.bench.helper_gain import HelperGain
from tests.bench.load_generator import Measurement
from tests.bench.report import Report, Size, Yardsticks, scorecard
from tests.bench.rows import Row, median_row
from tests.bench.workloads import KEYS, WorkloadName, workload

YARDSTICKS = Yardsticks(
    signature_cpu_us=40, echo_p50_us=100, direct_get_p50_us=100, naive_counter_per_second=100, naive_set_per_second=50
)


def row(name: WorkloadName, in_flight: int, per_second: int, cpu_us: float, *, is_exact: bool = True) -> Row:
    measured = Measurement(
        count=per_second,
        seconds=1,
        p50_us=480,
        p99_us=900,
        errors=0,
        first_error="",
        is_exact=is_exact,
        own_cpu_seconds=0.1,
    )
    return Row(workload=name, in_flight=in_flight, provider_cpu_us=cpu_us, measured=measured)


def test_every_line_of_the_scorecard_compares_a_ratio_with_its_limit() -> None:
    rows = [
        row(WorkloadName.GET, 1, 2000, 100),
        row(WorkloadName.GET, 64, 4000, 60),
        row(WorkloadName.INCREMENT, 64, 3000, 60),
        row(WorkloadName.SET_ADD, 64, 1500, 60),
    ]
    size = Size(
        start_seconds=0.6, imports_seconds=0.25, links=1000, linked_megabytes=50, grown_megabytes=3, invocations=100_000
    )
    judged = scorecard(Report(rows=rows, yardsticks=YARDSTICKS, size=size))
    assert [round(target.ratio, 2) for target in judged] == [1.5, 2.0, 0, 30, 0.75, 30, 2.4, 50, 3]
    assert [target.is_met for target in judged] == [True, False, *[True] * 7]


def test_a_counter_whose_totals_are_not_exactly_once_misses_its_limit() -> None:
    judged = scorecard(Report(rows=[row(WorkloadName.INCREMENT, 64, 3000, 60, is_exact=False)], yardsticks=YARDSTICKS))
    assert not judged[0].is_met


def test_parts_that_were_not_measured_have_no_score() -> None:
    assert scorecard(Report(rows=[], yardsticks=YARDSTICKS)) == []


def test_gets_that_are_in_flight_together_read_different_keys() -> None:
    made = workload(WorkloadName.GET, 2 * KEYS, "t")
    assert len(set(made.measured[:KEYS])) == KEYS
    assert len(made.before) == KEYS


def test_every_measured_member_is_new_to_its_set_of_a_thousand_on_average() -> None:
    made = workload(WorkloadName.SET_ADD, 1000, "t")
    assert len(made.before) == 2 * 750
    assert not set(made.before) & set(made.measured)
    assert len(set(made.measured)) == 1000


def test_the_median_round_counts_but_the_errors_of_all_rounds_are_kept() -> None:
    rounds = [row(WorkloadName.INCREMENT, 64, 3000, cpu_us, is_exact=cpu_us != 90) for cpu_us in (60, 90, 50)]
    merged = median_row(rounds)
    assert merged.provider_cpu_us == 60
    assert not merged.measured.is_exact


def test_the_gain_by_helper_processes_is_scored_for_each_backend() -> None:
    gain = HelperGain(
        backend=Backend.BUCKET,
        signature_cpu_us=40,
        own_cpu_us=30,
        helpers_cpu_us=45,
        alone_cpu_us=66,
        rate_ratio=1.2,
        p50_ratio=1.01,
        helper_megabytes=10,
    )
    cache = structs.replace(gain, backend=Backend.CACHE)
    judged = scorecard(Report(helpers=[gain, cache]))
    assert [line.is_met for line in judged] == [True, False, True, True, False, False, True, True]
