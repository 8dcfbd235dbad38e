"""Sign invocations as a provider does that calls an actor. Pure: the time and the id are arguments."""

from __future__ import annotations

import base64

import msgspec
import nkeys

from contracts.lattice import Invocation, WasmCloudEntity, entity_url, invocation_hash, target_url
from contracts.secret import Secret

_HEADER = base64.urlsafe_b64encode(b'{"typ":"jwt","alg":"Ed25519"}').rstrip(b"=")
_WASCAP_REVISION = 3


class InvocationSigner:
    """Signs with the cluster's seed, which the host gives to its providers.

    Args:
        host_id: Of the host that started this provider.
        seed: The host data's `invocation_seed`.

    Raises:
        ValueError: It is no seed.
    """

    def __init__(self, host_id: str, seed: Secret) -> None:
        self._host_id = host_id
        try:
            self._key = nkeys.from_seed(bytearray(seed.reveal().encode()))
            self._issuer = self._key.public_key.decode()
        except (nkeys.NkeysError, ValueError, AttributeError):
            raise ValueError("expected the seed of an nkey") from None

    def sign(
        self, invocation_id: str, origin: WasmCloudEntity, actor_id: str, operation: str, msg: bytes, now: float
    ) -> Invocation:
        """Return a signed invocation of an actor.

        Args:
            invocation_id: A new one.
            origin: This provider, as the link names it.
            actor_id: Whom to call.
            operation: E.g. `KeyValueWatch.HandleChange`.
            msg: The whole payload.
            now: Seconds since 1970.

        Source: wasmCloud v0.82.0 crates/wascap/src/jwt.rs, crates/core/src/lib.rs.
        """
        target = WasmCloudEntity(actor_id)
        origin_url, url_of_target = entity_url(origin), target_url(target, operation)
        claims = {
            "jti": invocation_id,
            "iat": int(now),
            "iss": self._issuer,
            "sub": invocation_id,
            "wascap": {
                "target_url": url_of_target,
                "origin_url": origin_url,
                "hash": invocation_hash(origin_url, url_of_target, operation, msg),
            },
            "wascap_revision": _WASCAP_REVISION,
        }
        signing_input = _HEADER + b"." + _segment(msgspec.json.encode(claims))
        token = signing_input + b"." + _segment(self._key.sign(signing_input))
        return Invocation(
            origin=origin,
            target=target,
            operation=operation,
            msg=msg,
            id=invocation_id,
            encoded_claims=token.decode(),
            host_id=self._host_id,
            content_length=len(msg),
        )


def _segment(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
