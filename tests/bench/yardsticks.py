"""Yardsticks for the provider, measured in the same run. Each is a process of its own that prints one JSON object.

python -m tests.bench.yardsticks signature
python -m tests.bench.yardsticks own-signature
python -m tests.bench.yardsticks echo NATS_URL SUBJECT           prints {"ready": true}, serves until killed
python -m tests.bench.yardsticks direct-get NATS_URL SUBJECT
python -m tests.bench.yardsticks naive-counter NATS_URL BUCKET SECONDS
python -m tests.bench.yardsticks naive-set NATS_URL BUCKET SECONDS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import nats
import uvloop
from nacl.bindings import crypto_sign_open
from nacl.signing import SigningKey
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts import keyvalue
from contracts.nkeys import parse_seed
from provider.commands.dev_lattice.actor import Signer
from provider.commands.dev_lattice.start import make_identity
from provider.lattice.claims import ClaimsVerifier, decode_token

_SIGNATURE_ROUNDS, _SIGNATURES_PER_ROUND = 21, 200
"""Rounds of some milliseconds each, of which the median counts: an interruption spoils only one."""

_DIRECT_GETS = 2000
_NAIVE_TASKS = 64
"""The same number as operations in flight in the rows that are compared."""

_SET_MEMBERS = 1000
_CAS_CONFLICTS = frozenset({10071, 10164})
"""The server's codes for a wrong last sequence."""

_ECHOED = bytes(120)
"""About the size of the provider's answer to a Get."""


def signature() -> dict[str, Any]:
    """Measure the CPU time of checking one real token's signature with libsodium, which nkeys and most programs use.

    The provider's own library is somewhat faster. A yardstick must not change with the provider, so it is not used here.
    """
    link = make_identity("default", "default")
    token = Signer(link).sign(keyvalue.Get("bench")).encoded_claims
    signing_input, _, _ = token.rpartition(".")
    key = SigningKey(parse_seed(link.cluster_seed.reveal()).raw())
    signed = bytes(key.sign(signing_input.encode()))
    public = bytes(key.verify_key)
    return _cpu_of(lambda: crypto_sign_open(signed, public))


def own_signature() -> dict[str, Any]:
    """Measure the CPU time of the same check by the provider's library, for the part of a call that is not signature."""
    link = make_identity("default", "default")
    token = decode_token(Signer(link).sign(keyvalue.Get("bench")).encoded_claims)
    verifier = ClaimsVerifier([token.claims.iss])
    return _cpu_of(lambda: verifier.is_signed(token))


def _cpu_of(check: Callable[[], object]) -> dict[str, Any]:
    rounds = []
    for _ in range(_SIGNATURE_ROUNDS):
        started = time.process_time_ns()
        for _ in range(_SIGNATURES_PER_ROUND):
            check()
        rounds.append((time.process_time_ns() - started) / _SIGNATURES_PER_ROUND / 1000)
    return {"cpu_us": median(rounds)}


async def echo(nats_url: str, subject: str) -> None:
    """Serve a subject with the simplest service in Python."""
    connection = await nats.connect(nats_url)

    async def answer(message: Msg) -> None:
        await connection.publish(message.reply, _ECHOED)

    await connection.subscribe(subject, queue="rpc", cb=answer)
    await connection.flush()
    _write_json({"ready": True})
    await asyncio.Event().wait()


async def direct_get(nats_url: str, subject: str) -> dict[str, Any]:
    """Measure direct gets, one at a time."""
    connection = await nats.connect(nats_url)
    times = []
    for _ in range(_DIRECT_GETS):
        started = time.perf_counter_ns()
        await connection.request(subject, b"", timeout=2)
        times.append((time.perf_counter_ns() - started) / 1000)
    await connection.close()
    return {"p50_us": median(times)}


async def naive(
    nats_url: str, bucket: str, seconds: float, first: bytes, change: Callable[[bytes, int], bytes]
) -> dict[str, Any]:
    """Have 64 tasks change one key in naive loops: read it, and write it back if its revision is still the same.

    Each task has a connection of its own, like 64 competing providers.
    """
    connection = await nats.connect(nats_url)
    stream = {"name": f"KV_{bucket}", "subjects": [f"$KV.{bucket}.>"], "max_msgs_per_subject": 1, "allow_direct": True}
    stream |= {"discard": "new", "storage": "file", "num_replicas": 1}
    await connection.request(f"$JS.API.STREAM.CREATE.KV_{bucket}", json.dumps(stream).encode(), timeout=5)
    await connection.request(f"$KV.{bucket}.k", first, timeout=5)
    competitors = [await nats.connect(nats_url) for _ in range(_NAIVE_TASKS)]
    counts = [0, 0]
    started = time.monotonic()
    deadline = started + seconds
    await asyncio.gather(*(_compete(each, bucket, deadline, change, counts) for each in competitors))
    took = time.monotonic() - started
    await asyncio.gather(*(each.close() for each in competitors))
    await connection.request(f"$JS.API.STREAM.DELETE.KV_{bucket}", b"", timeout=5)
    await connection.close()
    return {"per_second": counts[0] / took, "conflicts": counts[1]}


async def _compete(
    connection: Client, bucket: str, deadline: float, change: Callable[[bytes, int], bytes], counts: list[int]
) -> None:
    read, write = f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.k", f"$KV.{bucket}.k"
    while time.monotonic() < deadline:
        found = await connection.request(read, b"", timeout=5)
        assert found.headers is not None
        headers = {"Nats-Expected-Last-Subject-Sequence": found.headers["Nats-Sequence"]}
        answer = await connection.request(write, change(found.data, counts[0]), timeout=5, headers=headers)
        error = json.loads(answer.data).get("error")
        counts[0 if error is None else 1] += 1
        if error is not None and error["err_code"] not in _CAS_CONFLICTS:
            raise RuntimeError(f"the naive loop got {error}")


def _add_one(value: bytes, _: int) -> bytes:
    return b"%d" % (int(value) + 1)


def _add_member(value: bytes, number: int) -> bytes:
    return json.dumps([*json.loads(value), f"member-{number}"][-_SET_MEMBERS:]).encode()


def _write_json(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def main() -> None:
    name, *arguments = sys.argv[1:]
    match name, arguments:
        case "signature", []:
            _write_json(signature())
        case "own-signature", []:
            _write_json(own_signature())
        case "echo", [url, subject]:
            uvloop.run(echo(url, subject))
        case "direct-get", [url, subject]:
            _write_json(uvloop.run(direct_get(url, subject)))
        case "naive-counter", [url, bucket, seconds]:
            _write_json(uvloop.run(naive(url, bucket, float(seconds), b"0", _add_one)))
        case "naive-set", [url, bucket, seconds]:
            members = json.dumps([f"before-{number}" for number in range(_SET_MEMBERS)]).encode()
            _write_json(uvloop.run(naive(url, bucket, float(seconds), members, _add_member)))
        case _:
            sys.exit(f"unknown yardstick {name!r}")


if __name__ == "__main__":
    main()
