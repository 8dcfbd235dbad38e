"""The protocol between a host and this provider as a state machine: bytes in, frozen events out. No I/O, no clock.

It owns the table of links and decides which invocations are accepted. It does not know the meaning of link values and
payloads.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from contracts.codec import MalformedError
from contracts.host import HostData, HostFamily
from contracts.lattice import (
    HealthCheckResponse,
    Invocation,
    LinkDefinition,
    Subjects,
    decode_invocation,
    decode_link_definition,
    decode_shutdown_host_id,
    encode_health,
    invocation_id_of,
    link_definition_from,
)
from contracts.long_values import Buffer
from contracts.tokens import InvocationClaims, Token
from provider import errors
from provider.lattice.claims import ClaimsVerifier, decode_token
from provider.lattice.seen_ids import SeenIds

LinkKey = tuple[str, str, str]
"""The identity of a link: actor id, contract id, link name."""

_UNTIMELY = (
    errors.ClaimsExpiredError,
    errors.ClaimsNotYetValidError,
    errors.ClaimsTooOldError,
    errors.ClaimsTooEarlyError,
)


class InvocationAccepted(Struct, frozen=True, gc=False):
    """A verified invocation of a linked actor. If it is chunked, its hash has not been checked yet."""

    invocation: Invocation
    claims: InvocationClaims
    link: LinkKey


class InvocationRefused(Struct, frozen=True):
    """An invocation to answer with an error.

    Attributes:
        invocation_id: The id; "" if none could be read.
        operation: The name of the operation; "" if none could be read.
        error: The reason, a bare error.
        is_untimely: Whether an issuer of the cluster has signed it, and its time alone speaks against it.
    """

    invocation_id: str
    operation: str
    error: errors.InvocationError
    is_untimely: bool = False


class LinkPut(Struct, frozen=True):
    """A link to open, or to reopen with other values.

    Attributes:
        fault: Reason why the link cannot be opened although it is in force; "" without a fault.
        may_watch: Whether the provider may call the other side of the link with changes.
    """

    key: LinkKey
    definition: LinkDefinition
    is_change: bool
    fault: str = ""
    may_watch: bool = True


class LinkDeleted(Struct, frozen=True):
    """A link to close. `reason` is for the log."""

    key: LinkKey
    reason: str


class LinkIgnored(Struct, frozen=True):
    """A link message that changes nothing. `reason` is "" for the duplicates that every lattice sends."""

    reason: str


class ShutdownRequested(Struct, frozen=True):
    """A request of this provider's own host to stop."""


class ShutdownIgnored(Struct, frozen=True):
    """A request of another host, which stops its own provider of the same key and link name."""


class Received(Struct, eq=False, gc=False):
    """An invocation between its arrival and the judgement.

    Attributes:
        opened: The invocation and its token, or the reason for refusing the message.
        reply: NATS subject of the reply; b"" if the caller wants none.
        header: NATS headers of the message.
        size_bytes: Size of the message.
        now: Arrival in seconds since 1970, by which the claims are judged.
        arrived: Arrival by `time.monotonic`.
        is_signed: The result of the signature check, or its error; None until it has been made.
    """

    opened: tuple[Invocation, Token[InvocationClaims]] | InvocationRefused
    reply: bytes
    header: bytes
    size_bytes: int
    now: float
    arrived: float
    is_signed: bool | errors.InvocationError | None


InvocationEvent = InvocationAccepted | InvocationRefused
LinkEvent = LinkPut | LinkDeleted | LinkIgnored


class LatticeProtocol:
    """One provider process in its lattice.

    Args:
        host_data: The host data. Its links are not applied here: pass them to `put_definition` once the subscriptions
            exist, so that no change is missed in between.
        verifier: Verifier with the cluster's issuers.
        seen_ids: Memory of invocation ids; None turns the checks for replays and age off.
    """

    def __init__(self, host_data: HostData, verifier: ClaimsVerifier, seen_ids: SeenIds | None) -> None:
        self.subjects = Subjects(host_data.lattice_rpc_prefix, host_data.provider_key, host_data.link_name)
        self._host_id = host_data.host_id
        self._is_json = host_data.family is HostFamily.TEST_HARNESS
        self._verifier = verifier
        self._seen_ids = seen_ids
        self._links: dict[LinkKey, LinkDefinition] = {}
        self._keys_of_actor: dict[str, list[LinkKey]] = {}

    # --- invocations

    def receive_invocation(self, payload: bytes, now: float) -> InvocationEvent:
        """Decode and verify one invocation. See `receive_invocations`."""
        return self.receive_invocations([payload], now)[0]

    def receive_invocations(self, payloads: Sequence[bytes], now: float) -> list[InvocationEvent]:
        """Decode and verify invocations that arrived together. Their `msg` is not decoded.

        Each step is done for all of them before the next one: a signature check evicts everything else from the
        processor's caches, and alternating with it makes the other steps slower by half.

        Args:
            payloads: The messages as received.
            now: Seconds since 1970.

        Returns:
            An event for each message, in order.
        """
        received = [self.open(payload, b"", b"", now, 0.0) for payload in payloads]
        for item in received:
            self.check_signature(item)
        return [self.judge(item) for item in received]

    def open(self, payload: bytes, reply: bytes, header: bytes, now: float, arrived: float) -> Received:
        """Decode an invocation and take its token apart; see `Received` for the arguments."""
        try:
            invocation = decode_invocation(payload)
        except MalformedError as error:
            refused = InvocationRefused(invocation_id_of(payload), "", errors.MalformedInvocationError(str(error)))
            return Received(refused, reply, header, len(payload), now, arrived, False)
        try:
            opened = invocation, decode_token(invocation.encoded_claims)
        except errors.InvocationDeniedError as error:
            refused = InvocationRefused(invocation.id, invocation.operation, errors.bare(error))
            return Received(refused, reply, header, len(payload), now, arrived, False)
        return Received(opened, reply, header, len(payload), now, arrived, None)

    def signed_bytes(self, item: Received) -> tuple[bytes, bytes, bytes] | None:
        """Return the key, the signature and the signed bytes of an invocation; None if its issuer is not a key."""
        if isinstance(item.opened, InvocationRefused):
            return None
        token = item.opened[1]
        try:
            return self._verifier.key_of(token), token.signature, token.signing_input
        except errors.InvocationDeniedError:
            return None

    def check_signature(self, item: Received) -> None:
        """Check the signature of an invocation, if it could be opened."""
        if isinstance(item.opened, InvocationRefused):
            return
        try:
            item.is_signed = self._verifier.is_signed(item.opened[1])
        except errors.InvocationDeniedError as error:
            item.is_signed = errors.bare(error)

    def judge(self, item: Received) -> InvocationEvent:
        """Decide on an invocation whose signature has been checked, by the links in force and the time of its arrival."""
        if isinstance(item.opened, InvocationRefused):
            return item.opened
        invocation, token = item.opened
        is_signed, now = item.is_signed, item.now
        if not isinstance(is_signed, bool):
            assert is_signed is not None, "the signature has been checked"
            return InvocationRefused(invocation.id, invocation.operation, is_signed)
        try:
            claims = self._verifier.judge(invocation, token, is_signed, now)
            link = self._link_of(invocation)
            # The reference does not make these checks.
            if claims.sub != invocation.id:
                raise errors.SubjectMismatchError
            if self._seen_ids is not None:
                self._seen_ids.admit(invocation.id, claims.iat, now)
        except errors.InvocationDeniedError as error:
            is_trusted = is_signed and self._verifier.is_issuer(token.claims.iss)
            is_untimely = is_trusted and isinstance(error, _UNTIMELY)
            return InvocationRefused(invocation.id, invocation.operation, errors.bare(error), is_untimely)
        return InvocationAccepted(invocation, claims, link)

    def check_payload(self, accepted: InvocationAccepted, payload: Buffer) -> None:
        """Check the payload of a chunked invocation against the signed hash.

        Raises:
            errors.HashMismatchError: Another payload was signed.
        """
        self._verifier.verify_hash(accepted.invocation, accepted.claims, payload)

    def _link_of(self, invocation: Invocation) -> LinkKey:
        target, actor_id = invocation.target, invocation.origin.public_key
        if target.public_key != self.subjects.provider_key:
            raise errors.TargetKeyMismatchError(target.public_key)
        keys = self._keys_of_actor.get(actor_id)
        if not keys:
            raise errors.UnlinkedActorError(actor_id)
        if target.link_name not in (self.subjects.link_name, ""):
            raise errors.LinkNameMismatchError(target.link_name)
        if not target.contract_id:
            return keys[0]
        key = (actor_id, target.contract_id, self.subjects.link_name)
        if key not in self._links:
            raise errors.ContractMismatchError(target.contract_id)
        return key

    # --- links

    @property
    def links(self) -> dict[LinkKey, LinkDefinition]:
        """The links in force. Callers must not change them."""
        return self._links

    def receive_put_link(self, payload: bytes) -> LinkEvent:
        try:
            return self.put_definition(decode_link_definition(payload, is_json=self._is_json))
        except MalformedError as error:
            return LinkIgnored(str(error))

    def receive_delete_link(self, payload: bytes) -> LinkEvent:
        try:
            return self.delete_definition(decode_link_definition(payload, is_json=self._is_json))
        except MalformedError as error:
            return LinkIgnored(str(error))

    def receive_metadata(self, definition: object, *, is_deleted: bool) -> LinkEvent:
        """Apply a link definition from the lattice's own records, given as plain values.

        A definition that names another provider for one of our links means that the link was re-pointed. Hosts do not
        inform the old provider.
        """
        try:
            link = link_definition_from(definition)
        except MalformedError as error:
            return LinkIgnored(str(error))
        key = (link.actor_id, link.contract_id, link.link_name)
        ours = self._links.get(key)
        if is_deleted:
            return self._delete(key, "deleted in the lattice's records") if ours else LinkIgnored("")
        if link.provider_id == self.subjects.provider_key and link.link_name == self.subjects.link_name:
            return self.put_definition(link)
        return self._delete(key, "re-pointed to another provider") if ours else LinkIgnored("")

    def forget_hash(self, hash_id: str) -> LinkEvent:
        """Delete the link whose record, stored under this hash, was removed from the lattice's records."""
        for key, link in self._links.items():
            if link.hash_id == hash_id:
                return self._delete(key, "deleted in the lattice's records")
        return LinkIgnored("")

    def put_definition(self, definition: LinkDefinition) -> LinkEvent:
        if definition.provider_id != self.subjects.provider_key:
            return LinkIgnored("link definition is for another provider")
        if definition.link_name != self.subjects.link_name:
            return LinkIgnored("link definition is for another link name")
        key = (definition.actor_id, definition.contract_id, definition.link_name)
        before = self._links.get(key)
        if before is not None and before.values == definition.values:
            return LinkIgnored("")
        self._links[key] = definition
        if before is None:
            self._keys_of_actor.setdefault(definition.actor_id, []).append(key)
        return LinkPut(key, definition, is_change=before is not None)

    def delete_definition(self, definition: LinkDefinition) -> LinkEvent:
        key = (definition.actor_id, definition.contract_id, definition.link_name)
        return self._delete(key, "deleted") if key in self._links else LinkIgnored("")

    def _delete(self, key: LinkKey, reason: str) -> LinkDeleted:
        del self._links[key]
        actor_id = key[0]
        self._keys_of_actor[actor_id].remove(key)
        if not self._keys_of_actor[actor_id]:
            del self._keys_of_actor[actor_id]
        return LinkDeleted(key, reason)

    # --- health and shutdown

    def health(self, unhealthy: str | None, notice: str | None) -> bytes:
        """Encode the answer to a health request.

        Args:
            unhealthy: Reason of bad health; None if the health is good.
            notice: Remarks beside that, or None.
        """
        message = "; ".join(text for text in (unhealthy, notice) if text)
        return encode_health(HealthCheckResponse(unhealthy is None, message or None), is_json=self._is_json)

    def receive_shutdown(self, payload: bytes) -> ShutdownRequested | ShutdownIgnored:
        """Decide whether a shutdown request is from this provider's own host. Several hosts may run the same provider."""
        return ShutdownRequested() if decode_shutdown_host_id(payload) == self._host_id else ShutdownIgnored()
