"""How many events a replica takes in per second of CPU time: decoding the message included, no network. A process of its own.

python -m tests.bench.cache.merging ROUNDS

Another replica has made the events with the operations an actor calls; half of the Sets overwrite something, so that
they remove something too. The garbage collector is set as in a provider.
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
from provider.keyvalue.cache.operations import EVENTS, Change, Limits
from provider.keyvalue.cache.replica import Replica
from tests.bench.cache.report import Merging
from tests.bench.load import say

EVENTS_PER_MESSAGE = 64
_MESSAGES = 250
_KEYS = 8000
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
    """Let one replica carry out operations, and return what it tells the others."""
    replica, limits = Replica(new_replica_id()), Limits()
    messages: list[bytes] = []
    while len(messages) < _MESSAGES:
        while len(replica.unsent) < EVENTS_PER_MESSAGE:
            request = next(requests)
            key = getattr(request, "key", "")
            EVENTS[type(request)](Change(replica, limits, key, _NOW_MS), request)
        events, replica.unsent = replica.unsent[:EVENTS_PER_MESSAGE], replica.unsent[EVENTS_PER_MESSAGE:]
        first = replica.count - len(replica.unsent) - len(events) + 1
        messages.append(encode_message(replica.id, Deltas(first, events)))
    return messages


def _per_cpu_second(messages: list[bytes]) -> float:
    replica = Replica(new_replica_id())
    began = time.process_time_ns()
    for data in messages:
        sender, message = decode_message(data)
        assert isinstance(message, Deltas)
        for count, event in enumerate(message.events, message.first):
            replica.apply(sender, count, event)
    used_seconds = (time.process_time_ns() - began) / 1e9
    taken_in = sum(replica.context.vector.values())
    assert taken_in == len(messages) * EVENTS_PER_MESSAGE
    return taken_in / used_seconds


def main() -> None:
    rounds = int(sys.argv[1])
    mixed, sets = _messages(_mixed()), _messages(_sets())
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    measured = [(_per_cpu_second(mixed), _per_cpu_second(sets)) for _ in range(rounds)]
    say(
        Merging(
            events_per_message=EVENTS_PER_MESSAGE,
            mixed_per_cpu_second=median(mixed for mixed, _ in measured),
            sets_per_cpu_second=median(sets for _, sets in measured),
        )
    )


if __name__ == "__main__":
    main()
