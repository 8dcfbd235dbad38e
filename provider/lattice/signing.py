"""The signing of invocations by which a provider calls an actor. Pure: the time and the id are arguments."""

from __future__ import annotations

from contracts.lattice import Invocation, WasmCloudEntity
from contracts.long_values import LongBytes
from contracts.nkeys import key_pair
from contracts.secret import Secret
from contracts.tokens import encode_token, invocation_claims


class InvocationSigner:
    """A signer with the cluster's seed, which the host gives to its providers.

    Args:
        host_id: Public key of the host that started this provider.
        seed: The `invocation_seed` of the host data.

    Raises:
        ValueError: The text is not a seed.
    """

    def __init__(self, host_id: str, seed: Secret) -> None:
        self._host_id = host_id
        self._key = key_pair(seed.reveal())
        self._issuer = self._key.public_key.decode()

    def sign(
        self,
        invocation_id: str,
        origin: WasmCloudEntity,
        actor_id: str,
        operation: str,
        msg: bytes | LongBytes,
        now: float,
    ) -> Invocation:
        """Return a signed invocation of an actor.

        Args:
            invocation_id: A new id.
            origin: This provider, as the link names it.
            actor_id: Public key of the actor to call.
            operation: Name of the operation, e.g. `KeyValueWatch.HandleChange`.
            msg: The whole payload.
            now: Seconds since 1970.
        """
        invocation = Invocation(
            origin=origin,
            target=WasmCloudEntity(actor_id),
            operation=operation,
            msg=msg,  # type: ignore[arg-type]  # long ones are taken out before it is encoded
            id=invocation_id,
            encoded_claims="",
            host_id=self._host_id,
            content_length=len(msg),
        )
        claims = invocation_claims(invocation, self._issuer, int(now))
        invocation.encoded_claims = encode_token(claims, self._key.sign)
        return invocation
