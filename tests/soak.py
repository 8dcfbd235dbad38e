"""Play rounds of faults on a cluster of three servers, and check the calls for linearizability.

    python -m tests.soak [--rounds N] [--seed N] [--fault NAME ...] [--consistency LEVEL]

It prints a line for each round, and a table. If a history is not linearizable, the exit code is 1, the history is saved,
and the part that explains the violation is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from tests.blackbox.nats.cluster import Cluster
from tests.blackbox.nats.nats_server import NatsServer
from tests.linearizability.faults import FAULTS
from tests.linearizability.history import Outcome, save
from tests.linearizability.providers import Providers
from tests.linearizability.rounds import Round, play

ROOT = Path(__file__).resolve().parent.parent
SAVED = ROOT / ".soak"
_SEEDS = 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=len(FAULTS))
    parser.add_argument("--seed", type=int, default=None, help="of which faults come and how long they last")
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), help="only this fault; may be repeated")
    parser.add_argument("--consistency", choices=["strong", "leader", "fast"], default="strong")
    options = parser.parse_args()
    seed = random.randrange(_SEEDS) if options.seed is None else options.seed
    print(f"seed {seed}, {options.rounds} rounds, CONSISTENCY={options.consistency}", flush=True)
    random.seed(seed)
    faults = order_of(options.fault or list(FAULTS), options.rounds)
    rounds = asyncio.run(soak(faults, options.consistency, seed))
    print(table(rounds))
    survived = sum(one.is_survived for one in rounds)
    print(f"\nfaults survived: {survived} / {len(faults)}")
    return 0 if survived == len(faults) else 1


def order_of(faults: Sequence[str], count: int) -> list[str]:
    """Return `count` faults in a random order, each as often as the others."""
    order: list[str] = []
    while len(order) < count:
        order += random.sample(faults, len(faults))
    return order[:count]


async def soak(faults: Sequence[str], consistency: str, seed: int) -> list[Round]:
    """Play rounds on a cluster, and on a new one if the last does not recover by itself."""
    waiting = list(enumerate(faults, 1))
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="soak-") as name, NatsServer(Path(name) / "lattice") as lattice:
        for attempt in range(2 * len(faults)):
            async with AsyncExitStack() as stack:
                folder = Path(name) / str(attempt)
                try:
                    cluster = await stack.enter_async_context(Cluster(folder))
                    providers = await stack.enter_async_context(Providers(cluster, lattice.url, folder))
                except AssertionError as error:
                    print(f"      no cluster: {error}", flush=True)
                    continue
                while waiting:
                    number, fault = waiting[0]
                    began = time.monotonic()
                    try:
                        one = await play(providers, fault, consistency)
                    except (AssertionError, TimeoutError) as error:
                        print(f"{number:>4}  {fault:<24} not begun: {error}", flush=True)
                        break
                    rounds.append(one)
                    waiting.pop(0)
                    tell(number, one, time.monotonic() - began, await cluster.lagging(one.bucket))
                    if not one.is_survived:
                        explain(one, SAVED / f"history-{seed}-{number}.jsonl")
                    if one.trouble:
                        break
            if not waiting:
                break
    return rounds


def tell(number: int, one: Round, seconds: float, lagging: Sequence[str]) -> None:
    """Print the result of a round, and the replicas that still lag, which is a fault of the server."""
    counts = one.outcomes
    verdict = "VIOLATION" if one.violations else "UNDECIDED" if one.undecided else "TROUBLE" if one.trouble else "ok"
    print(
        f"{number:>4}  {one.fault:<24}{seconds:>6.1f} s  answered {counts[Outcome.ANSWERED]:>6}  "
        f"unknown {counts[Outcome.UNKNOWN]:>4}  refused {counts[Outcome.REFUSED]:>5}  "
        f"outage {one.outage_seconds:>5.1f} s  served again {one.seconds_until_served:>5.1f} s  {verdict}"
        f"{'  lagging: ' + ' '.join(lagging) if lagging else ''}",
        flush=True,
    )


def explain(one: Round, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    save(one.history, path)
    print(*one.violations, one.undecided, one.trouble, f"saved: {path}", sep="\n", flush=True)


def table(rounds: Sequence[Round]) -> str:
    head = f"\n{'fault':<24}{'survived':>10}{'answered':>10}{'unknown':>9}{'refused':>9}"
    lines = [f"{head}{'outage p50':>12}{'max':>7}{'again p50':>11}{'max':>7}"]
    faults = sorted({one.fault for one in rounds})
    for fault in [*faults, "all"]:
        some = [one for one in rounds if fault in ("all", one.fault)]
        counts = [sum(one.outcomes[outcome] for one in some) for outcome in Outcome]
        answered, refused, unknown = counts
        outages = [one.outage_seconds for one in some]
        waits = [one.seconds_until_served for one in some if not one.trouble] or [float("nan")]
        lines.append(
            f"{fault:<24}{f'{sum(one.is_survived for one in some)}/{len(some)}':>10}{answered:>10}{unknown:>9}{refused:>9}"
            f"{statistics.median(outages):>10.1f} s{max(outages):>5.1f} s{statistics.median(waits):>9.1f} s{max(waits):>5.1f} s"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
