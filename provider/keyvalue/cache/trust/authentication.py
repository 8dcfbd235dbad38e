"""The proof that a message comes from a member of the lattice, was meant for this cache, and arrives for the first time.

A message passes if its issuer is believed, its time and its number are new, and its signature is right. The checks stand in
the order of their cost. Pure: times are arguments.
"""

from __future__ import annotations

from provider.keyvalue.cache.causality import MAX_DRIFT_MS
from provider.keyvalue.cache.trust import signed
from provider.keyvalue.cache.trust.cluster_keys import ClusterKeys
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError, Refusal
from provider.keyvalue.cache.trust.sequences import Budget, Senders
from provider.keyvalue.cache.trust.signed import SignedHead

_MAX_LEAD_MS = MAX_DRIFT_MS
_MAX_AGE_MS = MAX_DRIFT_MS + 60_000
"""A clock may be as far behind as ahead, and a message may take a minute: a receiver may have been frozen."""

_REMEMBER_SECONDS = (_MAX_LEAD_MS + _MAX_AGE_MS) / 1000 + 10
"""Time after which none of a sender's messages is believed any more, however far ahead its clock was; and some reserve."""


class Authentication:
    """The signing and checking of the messages of one replica.

    Args:
        replica_id: Id of this replica.
        keys: Keys of this replica.

    Attributes:
        sequence: Number of the last own message.
    """

    def __init__(self, replica_id: str, keys: ClusterKeys) -> None:
        self.sequence = 0
        self._id = replica_id
        self._keys = keys
        self._senders = Senders()
        self._unknown = Budget()

    def sign(self, subject: str, kind: int, body: bytes, now_ms: int, answers: int = 0, release: int = 0) -> bytes:
        """Return the signed bytes of a message.

        Args:
            subject: Subject as configured, with the id of the receiver where there is one.
            kind: Kind of the message; see `signed`.
            body: Body of the message.
            now_ms: Time in milliseconds since 1970.
            answers: Sequence of the request that it answers.
            release: First release that understands the body; see `messages.release_of`.
        """
        self.sequence += 1
        head = SignedHead(kind, self._id, self.sequence, now_ms, answers, self._keys.issuer, release=release)
        return signed.sign(self._keys, subject, head, body)

    def check(self, data: bytes, subject: str, now_ms: int, now: float) -> SignedHead:
        """Check a message and note its number.

        Args:
            data: Message as received.
            subject: Subject as configured, on which it was to be sent.
            now_ms: Time in milliseconds since 1970.
            now: Seconds of a steady clock.

        Raises:
            ForeignMessageError: The message is not to be believed; nothing of it may be used.
        """
        head = signed.head_of(data)
        if not self._keys.is_believed(head.issuer):
            raise ForeignMessageError("a message signed with a key that is no cluster issuer here", Refusal.ISSUER)
        ahead_ms = head.time_ms - now_ms
        if not -_MAX_AGE_MS <= ahead_ms <= _MAX_LEAD_MS:
            where = "ahead" if ahead_ms > 0 else "behind"
            text = f"a message whose time is {abs(ahead_ms) // 1000} s {where}: clocks differ too much, or it is old"
            raise ForeignMessageError(text, Refusal.TIME)
        sender = self._senders.get(head.sender)
        if sender is not None and not sender.is_new(head.sequence):
            raise ForeignMessageError("a message that was received before", Refusal.REPEATED)
        self._check_signature(head, data, subject, now)
        if sender is None:
            sender = self._senders.add(head.sender, now)
        sender.take(head.sequence)
        sender.last, sender.ahead_ms = now, ahead_ms
        return head

    def _check_signature(self, head: SignedHead, data: bytes, subject: str, now: float) -> None:
        if head.issuer == self._keys.issuer:
            # The tag is checked first: however many messages are forged in the name of the own key, none costs a check of
            # its signature, and none keeps a member's message from being checked.
            if not signed.is_signed(self._keys, subject, head, data, is_tagged=True):
                raise _wrong_signature()
            return
        sender = self._senders.get(head.sender)
        budget = self._unknown if sender is None else sender.failures
        if budget.is_spent(now):
            raise ForeignMessageError("a message beyond those that can be checked", Refusal.UNCHECKED)
        is_signed = signed.is_signed(self._keys, subject, head, data)
        if sender is None or not is_signed:
            budget.spend()
        if not is_signed:
            raise _wrong_signature()

    def drift_ms(self, since: float) -> int:
        """Return the greatest difference between the own clock and that of a replica heard since a given time."""
        return self._senders.greatest_drift_ms(since)

    def forget_idle(self, now: float) -> None:
        self._senders.drop_idle(now, _REMEMBER_SECONDS)


def _wrong_signature() -> ForeignMessageError:
    """Return the error. A frame that named it would be kept by it, and so would the message: until the next collection."""
    return ForeignMessageError("a message with a wrong signature", Refusal.SIGNATURE)
