"""The lattice's object store, which carries payloads over the threshold, through plain requests to the JetStream API.

Metadata is decoded as strictly as the strictest host does.

Source: NATS ADR-20; nats-io/nats.rs, nats v0.24.0 (OTP hosts) and async-nats v0.33.0 (Rust hosts).
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import secrets
from typing import Any

from nats.aio.client import Client

CHUNK_BYTES = 128 * 1024
_REQUEST_SECONDS = 5.0
_STREAM_NOT_FOUND = 10059
_MESSAGE_NOT_FOUND = 10037


class ObjectStoreError(AssertionError):
    """An object that a host could not read."""


class ObjectStore:
    """The bucket that is named after the lattice.

    Args:
        client: Connection to the lattice.
        lattice: Lattice prefix.
        time_key: Field of an object's time in the host's library: OTP `modified`, Rust `mtime`.
    """

    def __init__(self, client: Client, lattice: str, time_key: str) -> None:
        self._client = client
        self._bucket = lattice
        self._stream = f"OBJ_{lattice}"
        self._time_key = time_key

    async def create(self) -> None:
        """Create the bucket as object store clients do. An existing one stays."""
        config = {
            "name": self._stream,
            "subjects": [f"$O.{self._bucket}.C.>", f"$O.{self._bucket}.M.>"],
            "retention": "limits",
            "discard": "new",
            "storage": "file",
            "num_replicas": 1,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
        }
        await self._api(f"STREAM.CREATE.{self._stream}", config)

    async def put(self, name: str, payload: bytes, **stated: Any) -> None:
        """Put an object. `stated` replaces fields of its metadata, so that it may be false."""
        nuid = secrets.token_hex(11)
        pieces = [payload[at : at + CHUNK_BYTES] for at in range(0, len(payload), CHUNK_BYTES)]
        for piece in pieces:
            await self._publish(f"$O.{self._bucket}.C.{nuid}", piece)
        digest = base64.urlsafe_b64encode(hashlib.sha256(payload).digest()).decode()
        meta = self._meta(name, nuid) | {
            "size": len(payload),
            "chunks": len(pieces),
            "digest": f"SHA-256={digest}",
        }
        await self._publish(self._meta_subject(name), json.dumps(meta | stated).encode(), {"Nats-Rollup": "sub"})

    async def take(self, name: str) -> bytes:
        """Read an object and delete it, as the receiver of a chunked payload does.

        Raises:
            ObjectStoreError: The object is absent, or the host's library would not accept its metadata.
        """
        meta = await self.meta(name)
        if meta is None:
            raise ObjectStoreError(f"no object {name}")
        for key, type_ in (
            ("name", str),
            ("bucket", str),
            ("nuid", str),
            ("size", int),
            ("chunks", int),
            ("digest", str),
            ("deleted", bool),
            (self._time_key, str),
        ):
            if type(meta.get(key)) is not type_:
                raise ObjectStoreError(f"object metadata: missing field {key}: {meta}")
        datetime.datetime.fromisoformat(meta[self._time_key])
        if meta["deleted"] or meta["name"] != name or meta["bucket"] != self._bucket:
            raise ObjectStoreError(f"object metadata of another object: {meta}")
        payload = await self._read(meta)
        await self._delete(name, meta["nuid"])
        return payload

    async def meta(self, name: str) -> dict[str, Any] | None:
        """Return the metadata of an object, which may be deleted, or `None` if it never existed."""
        message = await self._message({"last_by_subj": self._meta_subject(name)})
        return None if message is None else json.loads(message["payload"])

    async def chunk_count(self) -> int:
        """Return the number of messages with pieces of payloads."""
        info = await self._api(f"STREAM.INFO.{self._stream}", {"subjects_filter": f"$O.{self._bucket}.C.>"})
        return sum((info.get("state", {}).get("subjects") or {}).values())

    async def _read(self, meta: dict[str, Any]) -> bytes:
        subject = f"$O.{self._bucket}.C.{meta['nuid']}"
        pieces: list[bytes] = []
        sequence = 1
        for _ in range(meta["chunks"]):
            message = await self._message({"seq": sequence, "next_by_subj": subject})
            if message is None:
                raise ObjectStoreError(f"object ends after {len(pieces)} of {meta['chunks']} chunks")
            pieces.append(message["payload"])
            sequence = message["seq"] + 1
        payload = b"".join(pieces)
        digest = base64.urlsafe_b64encode(hashlib.sha256(payload).digest()).decode()
        if len(payload) != meta["size"] or meta["digest"] != f"SHA-256={digest}":
            raise ObjectStoreError(f"object does not match its metadata: {len(payload)} bytes, {meta}")
        return payload

    async def _delete(self, name: str, nuid: str) -> None:
        meta = self._meta(name, nuid) | {"deleted": True}
        await self._publish(self._meta_subject(name), json.dumps(meta).encode(), {"Nats-Rollup": "sub"})
        await self._api(f"STREAM.PURGE.{self._stream}", {"filter": f"$O.{self._bucket}.C.{nuid}"})

    def _meta(self, name: str, nuid: str) -> dict[str, Any]:
        return {
            "name": name,
            "description": None,
            "link": None,
            "bucket": self._bucket,
            "nuid": nuid,
            "size": 0,
            self._time_key: datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z"),
            "chunks": 0,
            "digest": "",
            "deleted": False,
        }

    def _meta_subject(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    async def _message(self, request: dict[str, Any]) -> dict[str, Any] | None:
        answer = await self._api(f"STREAM.MSG.GET.{self._stream}", request, _MESSAGE_NOT_FOUND, _STREAM_NOT_FOUND)
        if "message" not in answer:
            return None
        message: dict[str, Any] = answer["message"]
        return {"seq": message["seq"], "payload": base64.b64decode(message.get("data", ""))}

    async def _api(self, verb: str, request: dict[str, Any], *tolerated: int) -> dict[str, Any]:
        reply = await self._client.request(f"$JS.API.{verb}", json.dumps(request).encode(), timeout=_REQUEST_SECONDS)
        answer: dict[str, Any] = json.loads(reply.data)
        error = answer.get("error")
        if error is not None and error.get("err_code") not in tolerated:
            raise ObjectStoreError(f"{verb}: {error}")
        return answer

    async def _publish(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        reply = await self._client.request(subject, payload, timeout=_REQUEST_SECONDS, headers=headers)
        answer = json.loads(reply.data)
        if "error" in answer:
            raise ObjectStoreError(f"{subject}: {answer['error']}")
