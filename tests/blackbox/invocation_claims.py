"""Invocation claims: URLs, hash and the wascap token, written without a library. Source: wascap 0.8-0.12."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from typing import Any

from tests.blackbox.key_pairs import KeyPair

HEADER = {"typ": "jwt", "alg": "Ed25519"}


def entity_url(entity: dict[str, str]) -> str:
    key = entity["public_key"]
    if key.upper().startswith("M"):
        return f"wasmbus://{key}"
    contract = entity["contract_id"].replace(":", "/").replace(" ", "_").lower()
    return f"wasmbus://{contract}/{entity['link_name'].replace(' ', '_').lower()}/{key}"


def invocation_claims(
    issuer: str, invocation_id: str, origin: dict[str, str], target: dict[str, str], operation: str, msg: bytes
) -> dict[str, Any]:
    """Return the claims of an invocation. All hosts write `iat`, and none writes `exp` or `nbf`."""
    origin_url = entity_url(origin)
    target_url = f"{entity_url(target)}/{operation}"
    digest = hashlib.sha256(f"{origin_url}{target_url}{operation}".encode() + msg).hexdigest().upper()
    return {
        "jti": secrets.token_hex(11),
        "iat": int(time.time()),
        "iss": issuer,
        "sub": invocation_id,
        "wascap": {"target_url": target_url, "origin_url": origin_url, "hash": digest},
        "wascap_revision": 3,
    }


def sign(claims: dict[str, Any], key: KeyPair, header: dict[str, Any] | None = None) -> str:
    signed = ".".join(_segment(json.dumps(part, separators=(",", ":")).encode()) for part in (header or HEADER, claims))
    return f"{signed}.{_segment(key.sign(signed.encode()))}"


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
