"""The number of events that a replica merges per second of CPU time. A process of its own.

python -m tests.bench.cache.merging ROUNDS

Decoding the messages counts, a network is not involved. The events come from operations of an actor at another replica.
Half of the Sets overwrite a value, so that they remove something too. The garbage collector is configured as in a provider.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Iterator
from statistics import median

from contracts.keyvalue import Del, Increment, ListAdd, Request, Set, SetAdd, SetDel
from provider.keyvalue.cache.messages import Deltas, decode_message, encode_message, new_replica_id
from provider.keyvalue.cache.operations import MUTATORS, CacheLimits, Mutation
from provider.keyvalue.cache.replica import Replica
from tests.bench.cache.cache_report import Merging
from tests.bench.load_generator import write_json

EVENTS_PER_MESSAGE = 64
"""Events that 64 calls in flight put into one message."""

_MAX_BYTES = 2 * 1024 * 1024
_MESSAGES = 250
_KEYS = 8000
"""Half of the number of Sets, so that half of them overwrite."""

_SHARES = {Set: 60, Increment: 10, SetAdd: 10, Del: 8, ListAdd: 6, SetDel: 6}
_VALUE = "twenty characters :)"
_NOW_MS = 1_700_000_000_000
_GC_THRESHOLDS = (20_000, 50, 50)


def _sets() -> Iterator[Request]:
    chance = random.Random(1)
    while True:
        yield Set(f"bench.text.{chance.randrange(_KEYS)}", _VALUE, 0)


def _mixed() -> Iterator[Request]:
    chance = random.Random(1)
    texts = _sets()
    while True:
        (kind,) = chance.choices(list(_SHARES), list(_SHARES.values()))
        number, member = chance.randrange(100), f"member-{chance.randrange(200)}"
        if kind is Set:
            yield next(texts)
        elif kind is Del:
            yield Del(f"bench.text.{chance.randrange(_KEYS)}")
        elif kind is Increment:
            yield Increment(f"bench.counter.{number}", 1)
        elif kind is ListAdd:
            yield ListAdd(f"bench.list.{number}", _VALUE)
        else:
            yield kind(f"bench.set.{number}", member)


def _messages(requests: Iterator[Request]) -> list[bytes]:
    """Carry out operations at one replica, and return its messages to the others."""
    replica, limits = Replica(new_replica_id()), CacheLimits()
    messages: list[bytes] = []
    while len(messages) < _MESSAGES:
        while len(replica.unsent) < EVENTS_PER_MESSAGE:
            request = next(requests)
            key = getattr(request, "key", "")
            MUTATORS[type(request)](Mutation(replica, limits, key, _NOW_MS), request)
        events, replica.unsent = replica.unsent[:EVENTS_PER_MESSAGE], replica.unsent[EVENTS_PER_MESSAGE:]
        first = replica.count - len(replica.unsent) - len(events) + 1
        messages.append(encode_message(replica.id, Deltas(first, events)))
    return messages


def _per_cpu_second(messages: list[bytes]) -> float:
    replica = Replica(new_replica_id())
    began = time.process_time_ns()
    for data in messages:
        sender, message = decode_message(data, _MAX_BYTES)
        assert isinstance(message, Deltas)
        for count, event in enumerate(message.events, message.first):
            replica.apply(sender, count, event)
    used_seconds = (time.process_time_ns() - began) / 1e9
    merged = sum(replica.context.vector.values())
    assert merged == len(messages) * EVENTS_PER_MESSAGE
    return merged / used_seconds


def main() -> None:
    rounds = int(sys.argv[1])
    mixed, sets = _messages(_mixed()), _messages(_sets())
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    measured = [(_per_cpu_second(mixed), _per_cpu_second(sets)) for _ in range(rounds)]
    write_json(
        Merging(
            events_per_message=EVENTS_PER_MESSAGE,
            mixed_per_cpu_second=median(mixed for mixed, _ in measured),
            sets_per_cpu_second=median(sets for _, sets in measured),
        )
    )


if __name__ == "__main__":
    main()
