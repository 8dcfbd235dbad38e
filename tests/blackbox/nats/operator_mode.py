"""Tokens of NATS's decentralized accounts: operator, accounts, users. Source: nats-io/jwt v2."""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from typing import Any

import nkeys

_UNLIMITED = {"subs": -1, "data": -1, "payload": -1}
_ACCOUNT_LIMITS = _UNLIMITED | {
    "conn": -1,
    "leaf": -1,
    "imports": -1,
    "exports": -1,
    "wildcards": True,
    "mem_storage": -1,
    "disk_storage": -1,
    "streams": -1,
    "consumer": -1,
}


class SigningKey:
    """A key of NATS's own kinds: operator, account or user."""

    def __init__(self, prefix: int) -> None:
        self.seed = bytes(nkeys.encode_seed(os.urandom(32), prefix)).decode()

    @property
    def public(self) -> str:
        return bytes(nkeys.from_seed(bytearray(self.seed.encode())).public_key).decode()

    def token(self, subject: str, name: str, claims: dict[str, Any]) -> str:
        header = {"typ": "JWT", "alg": "ed25519-nkey"}
        body = {
            "jti": uuid.uuid4().hex,
            "iat": int(time.time()),
            "iss": self.public,
            "sub": subject,
            "name": name,
            "nats": claims | {"version": 2},
        }
        signed = f"{_segment(header)}.{_segment(body)}"
        signature = nkeys.from_seed(bytearray(self.seed.encode())).sign(signed.encode())
        return f"{signed}.{_encode(bytes(signature))}"


class Operator:
    """An operator with a system account, an account whose users have JetStream, and further accounts."""

    def __init__(self) -> None:
        self._key = SigningKey(nkeys.PREFIX_BYTE_OPERATOR)
        self._system = SigningKey(nkeys.PREFIX_BYTE_ACCOUNT)
        self._account = SigningKey(nkeys.PREFIX_BYTE_ACCOUNT)
        self._limits = {self._system: {"mem_storage": 0, "disk_storage": 0}, self._account: {}}

    def account(self, **limits: int) -> SigningKey:
        """Create a further account with limits: `disk_storage`, `mem_storage`, `streams`, ..."""
        key = SigningKey(nkeys.PREFIX_BYTE_ACCOUNT)
        self._limits[key] = limits
        return key

    def user(self, account: SigningKey | None = None) -> tuple[str, str]:
        """Create a user of an account, and return its token and its seed."""
        key = SigningKey(nkeys.PREFIX_BYTE_USER)
        return (account or self._account).token(key.public, "user", {"type": "user"} | _UNLIMITED), key.seed

    def server_config(self) -> str:
        token = self._key.token(
            self._key.public, "operator", {"type": "operator", "system_account": self._system.public}
        )
        preload = "\n".join(
            f"  {key.public}: "
            + self._key.token(key.public, "account", {"type": "account", "limits": _ACCOUNT_LIMITS | limits})
            for key, limits in self._limits.items()
        )
        system = self._system.public
        return f"operator: {token}\nsystem_account: {system}\nresolver: MEMORY\nresolver_preload: {{\n{preload}\n}}"


def creds_file(token: str, seed: str) -> str:
    """Return the text of a credentials file, as `nsc` writes it."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        "NKEY Seed printed below can be used to sign and prove identity.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def _segment(part: dict[str, Any]) -> str:
    return _encode(json.dumps(part, separators=(",", ":")).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
