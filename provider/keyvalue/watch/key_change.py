"""A change of a key, as a watch delivers it. Pure."""

from __future__ import annotations

from msgspec import Struct

from contracts.long_values import LongBytes
from provider.keyvalue.kinds import Kind


class KeyChange(Struct, frozen=True):
    """A change of a watched key.

    Attributes:
        key: The caller's key.
        kind: Kind of the value that is there now; `None`: there is no value any more.
        payload: The value as `nats kv get` shows it, a long text or binary value in parts; b"" without a value.
        revision: Revision of the change.
        is_expiry: Whether the value has ended by itself.
    """

    key: str
    kind: Kind | None
    payload: bytes | LongBytes
    revision: int
    is_expiry: bool = False
