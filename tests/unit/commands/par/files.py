"""Archives built with only the standard library, independently of the code under test."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from typing import Any

from tests.blackbox.key_pairs import KeyPair

NOW = 1_700_000_000
EXECUTABLE = b"#!/bin/sh\nexit 0\n"
TARGET = "x86_64-linux"


def tar(entries: Iterable[tuple[str, bytes]], **attributes: Any) -> bytes:
    """Return a tar of these files; each member gets the `attributes` of tarfile."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for attribute, value in attributes.items():
                setattr(member, attribute, value)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def claims(issuer: str, subject: str, **changed: Any) -> dict[str, Any]:
    metadata = {
        "name": "n",
        "capid": "wasmcloud:keyvalue",
        "vendor": "v",
        "target_hashes": {TARGET: hashlib.sha256(EXECUTABLE).hexdigest().upper()},
    }
    fields = {"jti": "j", "iat": NOW, "iss": issuer, "sub": subject, "wascap": metadata, "wascap_revision": 3}
    return fields | changed


def token(fields: Any, key: KeyPair, header: dict[str, str] | None = None) -> str:
    """Sign claims, valid or not."""
    signed = f"{_segment(_json(header or {'typ': 'jwt', 'alg': 'Ed25519'}))}.{_segment(_json(fields))}"
    return f"{signed}.{_segment(key.sign(signed.encode()))}"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
