"""The lattice's own records of links, written as hosts do. Source: wasmcloud-otp v0.59-v0.63, wasmCloud v0.78-v0.82."""

from __future__ import annotations

import json
import uuid
from typing import Any

from nats.aio.client import Client

from tests.blackbox.host_families import link_hash

_REQUEST_SECONDS = 5.0


class LatticeData:
    """The bucket LATTICEDATA_{lattice} of hosts from OTP 0.60 and Rust 0.78 on."""

    def __init__(self, client: Client, lattice: str) -> None:
        self._client = client
        self._bucket = f"LATTICEDATA_{lattice}"

    async def create(self) -> None:
        config = {
            "name": f"KV_{self._bucket}",
            "subjects": [f"$KV.{self._bucket}.>"],
            "max_msgs_per_subject": 1,
            "discard": "new",
            "deny_delete": True,
            "allow_rollup_hdrs": True,
            "storage": "file",
            "num_replicas": 1,
        }
        await _acknowledged(self._client, f"$JS.API.STREAM.CREATE.KV_{self._bucket}", json.dumps(config).encode())

    async def put(self, link: dict[str, Any]) -> None:
        await _acknowledged(self._client, self._subject(link), json.dumps(link).encode())

    async def put_text(self, key: str, text: bytes) -> None:
        await _acknowledged(self._client, f"$KV.{self._bucket}.{key}", text)

    async def delete(self, link: dict[str, Any], operation: str = "DEL") -> None:
        """Write a marker: DEL like Rust hosts, or PURGE like OTP hosts."""
        headers = {"KV-Operation": operation}
        if operation == "PURGE":
            headers["Nats-Rollup"] = "sub"
        await _acknowledged(self._client, self._subject(link), b"", headers)

    def _subject(self, link: dict[str, Any]) -> str:
        identity = link_hash(link["actor_id"], link["contract_id"], link["link_name"])
        return f"$KV.{self._bucket}.LINKDEF_{identity}"


class LatticeCache:
    """The stream LATTICECACHE_{lattice} of OTP hosts up to 0.59."""

    def __init__(self, client: Client, lattice: str) -> None:
        self._client = client
        self._lattice = lattice
        self._ids: dict[str, str] = {}

    async def create(self) -> None:
        name = f"LATTICECACHE_{self._lattice}"
        config = {
            "name": name,
            "subjects": [f"lc.{self._lattice}.>"],
            "max_msgs_per_subject": 1,
            "storage": "memory",
            "num_replicas": 1,
        }
        await _acknowledged(self._client, f"$JS.API.STREAM.CREATE.{name}", json.dumps(config).encode())

    async def put(self, link: dict[str, Any]) -> None:
        await _acknowledged(self._client, self._subject(link), json.dumps(link | {"deleted": False}).encode())

    async def delete(self, link: dict[str, Any]) -> None:
        await _acknowledged(self._client, self._subject(link), json.dumps(link | {"deleted": True}).encode())

    def _subject(self, link: dict[str, Any]) -> str:
        identity = link_hash(link["actor_id"], link["contract_id"], link["link_name"])
        return f"lc.{self._lattice}.linkdefs.{self._ids.setdefault(identity, str(uuid.uuid4()))}"


async def _acknowledged(client: Client, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
    reply = await client.request(subject, payload, timeout=_REQUEST_SECONDS, headers=headers)
    answer = json.loads(reply.data)
    assert "error" not in answer, f"{subject}: {answer['error']}"
