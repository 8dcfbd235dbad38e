"""`kv compact` removes the markers of deleted keys, on request only, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nats

from tests.blackbox.nats.nats_server import NatsServer
from tests.conformance.stored import StoredBucket

COMMAND = str(Path(sys.executable).parent / "keyvalue-nats")


def kv(server: NatsServer, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    arguments = [COMMAND, "kv", *words, "--nats", server.url]
    return subprocess.run(arguments, input=typed, capture_output=True, text=True, timeout=20, check=False)


async def test_markers_are_removed_after_a_question_that_names_the_risk(lattice_server: NatsServer) -> None:
    client = await nats.connect(lattice_server.url)
    bucket = StoredBucket(client, "compacted")
    assert kv(lattice_server, "add", "compacted").returncode == 0
    for number in range(3):
        assert kv(lattice_server, "put", "compacted", f"k{number}", "v").returncode == 0
    for key in ("k0", "k1"):
        assert kv(lattice_server, "del", "compacted", key, "--force").returncode == 0
    await client.publish("$KV.compacted.theirs", b"", headers={"KV-Operation": "DEL"})
    await client.flush()
    refused = kv(lattice_server, "compact", "compacted", typed="n\n")
    assert "may come back when nats-server is killed" in refused.stderr
    assert (await bucket.info())["state"]["num_subjects"] == 4
    done = kv(lattice_server, "compact", "compacted", "--force", "--json")
    assert done.stdout.strip() == '{"bucket":"compacted","removed_markers":3}', done.stderr
    assert kv(lattice_server, "keys", "compacted").stdout.split() == ["k2"]
    assert (await bucket.info())["state"]["messages"] == 1
    assert kv(lattice_server, "compact", "compacted", typed="y\n").stdout == "0 markers removed\n"
    await client.close()
