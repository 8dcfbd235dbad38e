"""Replicas that prove who they are: strangers with every right on NATS, other keys, recordings, and the way of an upgrade."""

from __future__ import annotations

import asyncio
import itertools
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import msgpack
import pytest
from nacl.signing import SigningKey
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.blackbox.host_families import RUST
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.nats.patient_client import patient_client
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.process.cache.forger import DELTAS, HEARTBEAT, PAGE, REQUEST, Forger, deltas, heartbeat, new_id, parse, text
from tests.process.cache.replicas import all_see, heartbeats_pass, sees
from tests.process.conftest import Hosts

HEARTBEAT_SECONDS = 1
Start = Callable[..., Awaitable[Actor]]


class Cache:
    """The cache that the replicas of a test share.

    Attributes:
        lattice: Name of the lattice.
        key: Key of the cluster.
    """

    def __init__(self, hosts: Hosts) -> None:
        self.lattice = f"lattice-{uuid.uuid4().hex[:12]}"
        self.key = KeyPair.generate("C")
        self._hosts = hosts

    @property
    def state_subject(self) -> str:
        return f"kvcache.{self.lattice}.default.state"

    def replay_subject(self, replica: str) -> str:
        return f"kvcache.{self.lattice}.default.replay.{replica}"

    async def start(
        self, key: KeyPair | None = None, issuers: Iterable[KeyPair] = (), seed: str | None = None, **values: Any
    ) -> Actor:
        """Start a replica, and return an actor linked to it once it answers."""
        key = key or self.key
        host = await self._hosts(RUST, lattice=self.lattice, cluster=key)
        actor = host.actor()
        link = host.link(actor, {"BACKEND": "cache", "REPLAY_HEARTBEAT_SECS": str(HEARTBEAT_SECONDS)} | values)
        believed = [issuer.public for issuer in issuers] or [key.public]
        await host.start_provider([link], cluster_issuers=believed, invocation_seed=key.seed if seed is None else seed)
        return Actor(host, actor)


@pytest.fixture
def cache(hosts: Hosts) -> Cache:
    return Cache(hosts)


@pytest.fixture
async def outsider(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A client without a key of the lattice that may publish and subscribe everywhere."""
    client = await patient_client(nats_server.url)
    yield client
    await client.close()


async def recorded(client: Client, cache: Cache) -> list[Msg]:
    """Collect from now on what replicas send each other."""
    found: list[Msg] = []

    async def keep(message: Msg) -> None:
        found.append(message)

    await client.subscribe(f"kvcache.{cache.lattice}.>", cb=keep)
    await client.flush()
    return found


async def health_tells(actor: Actor, word: str, *, is_healthy: bool) -> None:
    async def tells() -> bool:
        health = await actor.host.health()
        return health.is_healthy is is_healthy and word in health.message

    await eventually(tells, f"health that is {'good' if is_healthy else 'bad'} and says {word!r}")


def replica_named_by(messages: list[Msg]) -> tuple[str, int]:
    """Return the id of a replica that has sent deltas, and the counter of its last event."""
    for message in reversed(messages):
        sender, _, body = parse(message.data)
        if body is not None and body[0] == DELTAS:
            return sender, body[1] + len(body[2]) - 1
    raise AssertionError("no deltas")


async def end(actor: Actor) -> None:
    actor.host.provider.signal(signal.SIGKILL)
    await actor.host.provider.exited()


# --- keys


async def test_a_joiner_with_another_key_is_catching_up_and_unhealthy_and_the_others_say_what_they_refuse(
    cache: Cache,
) -> None:
    here = await cache.start()
    await here.set("t:here", "v")
    await heartbeats_pass(3)  # so that it is no joiner itself
    there = await cache.start(KeyPair.generate("C"))
    await health_tells(
        there, "can exchange nothing with the replicas that it hears: signed with an unknown key", is_healthy=False
    )
    await health_tells(here, "signed with an unknown key", is_healthy=True)
    assert await there.get("t:here") is None
    await there.set("t:there", "v")
    assert await here.get("t:there") is None
    await end(here)
    await health_tells(there, "", is_healthy=True)
    assert "cache_message_refused" in there.host.provider.stderr


async def test_keys_are_rotated_by_issuers_first_and_seeds_then(cache: Cache) -> None:
    old, new = cache.key, KeyPair.generate("C")
    first = await cache.start(old, [old])
    await first.set("t:first", "v")
    second = await cache.start(old, [old, new])
    await sees(second, {"t:first": "v"})
    await end(first)
    third = await cache.start(new, [old, new])
    await sees(third, {"t:first": "v"})
    await third.set("t:third", "v")
    await second.set("t:second", "v")
    await all_see([second, third], {"t:first": "v", "t:second": "v", "t:third": "v"})
    await end(second)
    fourth = await cache.start(new, [new])
    await all_see([third, fourth], {"t:first": "v", "t:second": "v", "t:third": "v"})


async def test_a_seed_that_was_changed_before_the_issuers_shows_on_both_sides(cache: Cache) -> None:
    old, new = cache.key, KeyPair.generate("C")
    here = await cache.start(old, [old])
    await heartbeats_pass(3)
    there = await cache.start(new, [old, new])
    await health_tells(there, "they do not hear this one, or refuse it", is_healthy=False)
    await health_tells(here, "signed with an unknown key", is_healthy=True)


async def test_a_cache_without_a_seed_is_refused_unless_its_link_does_without_signatures(cache: Cache) -> None:
    unable = await cache.start(seed="")
    assert "REPLICATION_AUTH" in await unable.error("Get", "t:k")
    await health_tells(unable, "no seed of the cluster", is_healthy=False)
    able = await cache.start(seed="", REPLICATION_AUTH="off")
    await able.set("t:k", "v")
    assert await able.get("t:k") == "v"


# --- outsiders


async def test_an_outsider_that_forges_messages_in_every_way_changes_nothing(cache: Cache, outsider: Client) -> None:
    here, there = await cache.start(), await cache.start()
    messages = await recorded(outsider, cache)
    await here.set("t:k", "mine")
    await here.increment("n:n", 5)
    await all_see([here, there], {"t:k": "mine", "n:n": "5"})
    replica, count = replica_named_by(messages)
    stranger, cluster = SigningKey.generate(), bytes(cache.key.signing_key.verify_key)
    for names, sender in itertools.product((None, cluster), (None, replica)):
        forger = Forger(cache.lattice, stranger, names, sender, first=1000)
        for body, kind in (
            (deltas(count + 1, *[text("t:k", "forged")] * 100), DELTAS),
            (deltas(1, text("n:n", "7")), DELTAS),
            (heartbeat({forger.sender: 2**60, replica: 2**60}, 1, wants_answer=True, is_leaving=True), HEARTBEAT),
        ):
            await outsider.publish(cache.state_subject, forger.message(cache.state_subject, kind, body))
        subject = cache.replay_subject(replica)
        await outsider.publish(subject, forger.message(subject, REQUEST, b""))
    await outsider.flush()
    await there.set("t:after", "v")
    await here.set("t:then", "v")
    await all_see([here, there], {"t:k": "mine", "n:n": "5", "t:after": "v", "t:then": "v"})
    await health_tells(there, "a wrong signature", is_healthy=True)
    await health_tells(there, "signed with an unknown key", is_healthy=True)


async def test_during_a_flood_of_forged_messages_calls_are_answered_and_a_joiner_catches_up(
    cache: Cache, outsider: Client
) -> None:
    here, there = await cache.start(), await cache.start()
    await here.set("t:before", "v")
    await sees(there, {"t:before": "v"})
    names: list[str] = []

    async def note(message: Msg) -> None:
        names.append(parse(message.data)[0])

    listening = await outsider.subscribe(cache.state_subject, cb=note)
    await eventually(lambda: len(set(names)) == 2, "a heartbeat of both")
    await listening.unsubscribe()
    forger = Forger(cache.lattice, SigningKey.generate(), bytes(cache.key.signing_key.verify_key))
    forged = forger.message(cache.state_subject, DELTAS, deltas(1, text("t:k", "forged")))

    async def flood() -> None:
        """Forge in the names of replicas that do not exist and of those that do, as fast as one of them takes it."""
        while not is_over.is_set():
            for number in range(50):
                name = new_id() if number % 2 else names[number % len(names)]
                await outsider.publish(cache.state_subject, forged[:39] + name.encode() + forged[51:])
            await here.set("t:pace", "v")

    is_over = asyncio.Event()
    flooding = asyncio.create_task(flood())
    await here.set("t:during", "v")
    await sees(there, {"t:during": "v", "t:k": None})
    late = await cache.start()
    await all_see([here, there, late], {"t:before": "v", "t:during": "v", "t:k": None})
    await late.set("t:late", "v")
    await all_see([here, there], {"t:late": "v"})
    await health_tells(here, "a wrong signature", is_healthy=True)
    is_over.set()
    await flooding


async def test_answers_of_an_outsider_do_not_keep_a_joiner_from_catching_up(cache: Cache, outsider: Client) -> None:
    here = await cache.start()
    expected = {f"t:{number}": "v" * 100 for number in range(500)}
    await asyncio.gather(*(here.set(key, value) for key, value in expected.items()))
    forger = Forger(cache.lattice, SigningKey.generate(), bytes(cache.key.signing_key.verify_key))

    async def answer_first(request: Msg) -> None:
        if not request.reply:
            return
        sender, sequence, _ = parse(request.data)
        subject = cache.replay_subject(sender)
        forged = forger.message(subject, PAGE, b"\x98\x04\xa1t\x00\xc3\xc3\xc0\x80\x90", sequence)
        await outsider.publish(subject, forged)
        await outsider.publish(request.reply, forged)
        await outsider.publish(request.reply, b"", headers={"Status": "503"})

    await outsider.subscribe(f"kvcache.{cache.lattice}.default.replay.*", cb=answer_first)
    await outsider.flush()
    there = await cache.start()
    await all_see([here, there], expected)


# --- recordings


async def test_recorded_messages_bring_nothing_back_after_all_replicas_have_restarted(
    cache: Cache, outsider: Client
) -> None:
    messages = await recorded(outsider, cache)
    here, there = await cache.start(), await cache.start()
    await here.set("t:deleted", "v")
    await there.set("t:too", "v")
    await here.increment("n:deleted", 5)
    await all_see([here, there], {"t:deleted": "v", "t:too": "v", "n:deleted": "5"})
    old = list(messages)
    for key in ("t:deleted", "t:too", "n:deleted"):
        await there.delete(key)
    await sees(here, {"t:deleted": None, "t:too": None, "n:deleted": None})
    for actor in (here, there):
        await end(actor)
    here, there = await cache.start(), await cache.start()
    for _ in range(2):
        for message in old:
            await outsider.publish(message.subject, message.data, message.reply)
        await outsider.flush()
        await here.set("t:new", "v")
        await all_see([here, there], {"t:new": "v", "t:deleted": None, "t:too": None, "n:deleted": None})
        await there.set("t:newer", "v")
        await all_see([here, there], {"t:newer": "v", "t:deleted": None, "t:too": None, "n:deleted": None})


async def test_messages_sent_back_to_their_senders_or_to_another_cache_do_nothing(
    cache: Cache, outsider: Client
) -> None:
    other: dict[str, Any] = {
        "STATE_REPL_SUBJECT": f"other.{cache.lattice}.state",
        "REPLAY_REQ_SUBJECT": f"other.{cache.lattice}.replay",
    }
    here, there, elsewhere = await cache.start(), await cache.start(), await cache.start(**other)
    messages = await recorded(outsider, cache)
    await here.set("t:k", "v")
    late = await cache.start()
    await all_see([here, there, late], {"t:k": "v"})
    replicas = {parse(message.data)[0] for message in messages}
    for message in list(messages):
        for subject in (message.subject, cache.state_subject, other["STATE_REPL_SUBJECT"]):
            await outsider.publish(subject, message.data)
        for replica in replicas:
            await outsider.publish(cache.replay_subject(replica), message.data)
    await outsider.flush()
    await here.set("t:k", "w")
    await all_see([here, there, late], {"t:k": "w"})
    await elsewhere.set("t:own", "v")
    assert await elsewhere.get("t:k") is None


# --- without signatures


async def test_replicas_that_do_without_signatures_replicate_and_say_so_in_health(cache: Cache) -> None:
    here, there = await cache.start(REPLICATION_AUTH="off"), await cache.start(seed="", REPLICATION_AUTH="off")
    await here.set("t:here", "v")
    await there.set("t:there", "v")
    await all_see([here, there], {"t:here": "v", "t:there": "v"})
    await health_tells(here, "REPLICATION_AUTH is off", is_healthy=True)
    strict = await cache.start()
    await health_tells(strict, "another version of the format", is_healthy=False)
    assert await strict.get("t:here") is None


async def test_an_upgrade_takes_over_what_instances_that_do_not_sign_have(cache: Cache) -> None:
    old = await cache.start(REPLICATION_AUTH="off")
    await old.set("t:kept", "v")
    await old.set("t:gone", "v")
    await old.increment("n:n", 5)
    new = await cache.start(REPLICATION_AUTH="upgrade", JOIN_WAIT_SECS="10")
    assert await new.get("t:kept") == "v"
    await old.delete("t:gone")
    await old.set("t:later", "v")
    expected = {"t:kept": "v", "t:gone": None, "n:n": "5", "t:later": "v"}
    await sees(new, expected)
    await health_tells(new, "REPLICATION_AUTH is upgrade", is_healthy=True)
    newer = await cache.start(REPLICATION_AUTH="upgrade", JOIN_WAIT_SECS="10")
    await new.set("t:new", "v")
    await end(old)
    await all_see([new, newer], expected | {"t:new": "v"})
    last = await cache.start()
    await sees(last, expected | {"t:new": "v"})


# --- members


async def test_a_member_gone_mad_keeps_no_joiner_from_catching_up_and_takes_little_memory(
    cache: Cache, outsider: Client
) -> None:
    """Everything here is signed with the cluster's key: there is no stranger to refuse, only content."""
    here = await cache.start(MAX_KEYS="1000", MAX_BYTES="1M")
    expected = {f"t:{number}": "v" * 100 for number in range(300)}
    await asyncio.gather(*(here.set(key, value) for key, value in expected.items()))
    messages = await recorded(outsider, cache)
    await heartbeats_pass(1)
    replica = parse(messages[-1].data)[0]
    mad = Forger(cache.lattice, cache.key.signing_key)
    before = here.host.provider.resident_bytes

    async def say(kind: int, body: bytes) -> None:
        await outsider.publish(cache.state_subject, mad.message(cache.state_subject, kind, body))
        await outsider.flush()

    async def answer_nonsense(request: Msg) -> None:
        """Answer each request with pages that never end."""
        sender, sequence, body = parse(request.data)
        if request.reply and sender != mad.sender and body is not None:
            context = [{mad.sender: 2**40}, {}] if body[2] == 0 else None
            cell: list[Any] = ["t:mad", {mad.sender: 1}, [], [], [], None, None]
            page = bytes(msgpack.packb([PAGE, "t", body[2], False, False, context, {}, [cell]]))
            subject = cache.replay_subject(sender)
            await outsider.publish(subject, mad.message(subject, PAGE, page, sequence))

    await outsider.subscribe(cache.replay_subject(mad.sender), cb=answer_nonsense)
    await say(HEARTBEAT, heartbeat({replica: 0, mad.sender: 2**40}))
    vectors = {new_id(): 1 for _ in range(20_000)}
    for number in range(5):
        await say(HEARTBEAT, heartbeat(vectors | {replica: 0}))
        element = [*text("l:large", "")[:2], [3, "x" * 1_030_000], {}, []]
        await say(DELTAS, deltas(10 + number, element))
        await say(DELTAS, deltas(1_000_000 * number + 1, *[text(f"t:{number}-{key}", "m") for key in range(5_000)]))
        await say(DELTAS, deltas(2_000_000 * number + 1, *[text("t:one", "m")] * 9_000))
        await say(DELTAS, deltas(30 + number, text("t:later", "m", 61)))
        await here.set("t:mine", str(number))
    there = await cache.start(MAX_KEYS="1000", MAX_BYTES="1M")
    await all_see([here, there], expected | {"t:mine": "4", "t:later": None, "l:large": []})
    await there.set("t:there", "v")
    await sees(here, {"t:there": "v"})
    assert here.host.provider.resident_bytes - before < 60 * 1024 * 1024
    await health_tells(here, "over a limit", is_healthy=True)
