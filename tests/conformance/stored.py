"""A bucket as `nats kv` sees it: the last message of each subject, read without the provider."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.js.errors import NoKeysError
from nats.js.kv import KeyValue

LISTING_SECONDS = 10.0
LEADERLESS_SECONDS = 20.0
NOT_YET = (10005, 10008)
"""JetStream's error codes for what passes: a restarted server still counts as offline, and there is no leader yet."""


class Message(NamedTuple):
    """The last message of a subject."""

    revision: int
    payload: bytes
    headers: dict[str, str]


class StoredBucket:
    """A bucket, through any connection to its account.

    Args:
        client: Open connection.
        name: Name of the bucket, without the `KV_` of its stream.
    """

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    async def message(self, bucket_key: str) -> Message | None:
        """Return the last message of a bucket key, which may be a marker, or `None`."""
        answer = await self._api(f"STREAM.MSG.GET.KV_{self.name}", {"last_by_subj": f"$KV.{self.name}.{bucket_key}"})
        if "error" in answer:
            assert answer["error"]["err_code"] == 10037, answer
            return None
        subject = f"$JS.API.DIRECT.GET.KV_{self.name}.$KV.{self.name}.{bucket_key}"
        message = await self._client.request(subject, b"", timeout=5)
        headers = dict(message.headers or {})
        if headers.get("Status") == "404":  # the message has ended since it was found
            return None
        return Message(int(headers["Nats-Sequence"]), message.data, headers)

    async def payload(self, bucket_key: str) -> bytes | None:
        """Return the value that `nats kv get` would print, or `None` if the key is absent or deleted."""
        message = await self.message(bucket_key)
        return None if message is None or is_marker(message) else message.payload

    async def revision(self, bucket_key: str) -> int:
        """Return the revision of a bucket key, or 0 if there is no message."""
        message = await self.message(bucket_key)
        return message.revision if message is not None else 0

    async def info(self) -> dict[str, Any]:
        return await self._api(f"STREAM.INFO.KV_{self.name}", None)

    async def create(self, **config: Any) -> None:
        """Create the bucket as an operator does, with `config` over the usual fields."""
        usual = {
            "name": f"KV_{self.name}",
            "subjects": [f"$KV.{self.name}.>"],
            "max_msgs_per_subject": 1,
            "discard": "new",
            "deny_delete": True,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
        }
        answer = await self._api(f"STREAM.CREATE.KV_{self.name}", usual | config)
        assert "error" not in answer, answer

    async def edit(self, **config: Any) -> None:
        """Change settings of the bucket's stream, as an operator does."""
        before = (await self.info())["config"]
        answer = await self._api(f"STREAM.UPDATE.KV_{self.name}", before | config)
        assert "error" not in answer, answer

    async def delete(self) -> None:
        answer = await self._api(f"STREAM.DELETE.KV_{self.name}", None)
        assert answer.get("success"), answer

    async def _api(self, call: str, request: dict[str, Any] | None) -> dict[str, Any]:
        """Call JetStream, and repeat the call while the cluster has no leader or too few servers."""
        payload = b"" if request is None else json.dumps(request).encode()
        give_up = time.monotonic() + LEADERLESS_SECONDS
        while True:
            message = await self._client.request(f"$JS.API.{call}", payload, timeout=5)
            answer: dict[str, Any] = json.loads(message.data)
            if answer.get("error", {}).get("err_code") not in NOT_YET or time.monotonic() > give_up:
                return answer
            await asyncio.sleep(0.1)


async def listed(bucket: KeyValue) -> list[str]:
    """Return the keys that nats-py lists in a bucket that is not empty.

    nats-py reports an empty bucket if the entries arrive before it asks for their number. The call is then repeated.
    """
    give_up = time.monotonic() + LISTING_SECONDS
    while True:
        try:
            return await bucket.keys()
        except NoKeysError:
            assert time.monotonic() < give_up


def is_marker(message: Message) -> bool:
    return message.headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in message.headers
