"""The operations beyond the fifteen, with the names and meanings of wasi:keyvalue where it has them.

Arguments and answers are MessagePack, as in wasmcloud:keyvalue. Every field is required.

Source: WebAssembly/wasi-keyvalue, wit/store.wit, atomics.wit, batch.wit (0.2.0-draft2).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from contracts.keyvalue import U32, KeyRequest, KeysRequest, Request, SingleKeyRequest

STORE, ATOMICS, BATCH, WATCH = "KeyValueStore", "KeyValueAtomics", "KeyValueBatch", "KeyValueWatch"

MAX_PAGE_KEYS = 10_000
"""As many keys as the default of `max_keys_per_call` allows an operation to name."""

Revision = Annotated[int, Meta(ge=0)]
PageKeys = Annotated[int, Meta(ge=1, le=MAX_PAGE_KEYS)]


class EntryResponse(Struct, frozen=True, gc=False):
    """The entry at a key.

    Attributes:
        value: A text, a counter's decimal text, a list or a set as a JSON array; "" if there is no entry.
        kind: `text`, `counter`, `list` or `set`; "" if there is no entry.
        revision: Revision of the entry; 0 if there is no entry.
        expires: Seconds left, rounded up; 0 if the entry does not expire.
    """

    exists: bool
    value: str
    kind: str
    revision: int
    expires: int


class SwapResponse(Struct, frozen=True, gc=False):
    """The outcome of a conditional change.

    Attributes:
        success: True if the change was made.
        revision: Revision of the entry that is there now; 0 if there is no entry.
    """

    success: bool
    revision: int


class GetEntry(KeyRequest, frozen=True, gc=False):
    """Read an entry of any kind with its revision: wasi's `cas.new` and `cas.current` in one."""

    interface = ATOMICS
    response_type = EntryResponse


class Create(SingleKeyRequest, frozen=True, gc=False):
    """Put a text at a key that has no entry. With `expires`, in seconds, the entry serves as a lock; 0 means never."""

    value: str
    expires: U32
    interface = ATOMICS
    response_type = SwapResponse


class CompareAndSwap(SingleKeyRequest, frozen=True, gc=False):
    """Put a text at a key whose entry has the given revision. Revision 0 means that there must be no entry."""

    value: str
    expires: U32
    revision: Revision
    interface = ATOMICS
    response_type = SwapResponse


class CompareAndDelete(SingleKeyRequest, frozen=True, gc=False):
    """Delete the entry if it has the given revision. The owner of a lock releases it this way."""

    revision: Revision
    interface = ATOMICS
    response_type = SwapResponse


class GetResult(Struct, frozen=True, gc=False):
    """The outcome for one key of a `GetMany`. If `error` is given, `value` and `exists` have no meaning."""

    key: str
    value: str
    exists: bool
    error: str | UnsetType = UNSET


class ChangeResult(Struct, frozen=True, gc=False):
    """The outcome for one key of a `SetMany` or `DeleteMany`.

    Attributes:
        done: True if the key was set, or existed and was deleted; false if `error` is given.
        error: The reason why this key was not changed; unset if it was.
    """

    key: str
    done: bool
    error: str | UnsetType = UNSET


class GetMany(KeysRequest, frozen=True, gc=False):
    """Read texts and numbers. The answers have the order of the keys."""

    interface = BATCH
    response_type = list[GetResult]


class DeleteMany(KeysRequest, frozen=True, gc=False):
    """Delete values of any kind, each independently of the others."""

    interface = BATCH
    response_type = list[ChangeResult]


class SetManyItem(Struct, frozen=True, gc=False):
    """A text to set. `expires` is in seconds from now; 0 means never."""

    key: str
    value: str
    expires: U32


class SetMany(Request, frozen=True, gc=False):
    """Put texts, each independently of the others."""

    items: list[SetManyItem]
    interface = BATCH
    response_type = list[ChangeResult]


class ListKeysResponse(Struct, frozen=True, gc=False):
    """A page of keys. `cursor` is where the next page begins; "" after the last page."""

    keys: list[str]
    cursor: str


class ListKeys(Request, frozen=True, gc=False):
    """List the keys that begin with a text, a page at a time. The first page has the cursor ""."""

    prefix: str
    cursor: str
    limit: PageKeys
    interface = STORE
    response_type = ListKeysResponse


class HandleChange(SingleKeyRequest, frozen=True, gc=False):
    """A change of a key that an actor watches. The provider calls the actor with it, and the actor answers nothing.

    Attributes:
        kind: Kind of the value that is there now, as in `EntryResponse`; "" if there is no value.
        value: Value as in `EntryResponse`; also "" for a value that is not text.
        operation: `put`, `delete` or `expire`.
    """

    kind: str
    value: str
    revision: int
    operation: str
    interface = WATCH
    response_type = None


HANDLE_CHANGE = f"{WATCH}.{HandleChange.__name__}"
"""The operation with which a provider calls an actor."""

REQUESTS: dict[str, type[Request]] = {
    f"{type_.interface}.{type_.__name__}": type_
    for type_ in (GetEntry, Create, CompareAndSwap, CompareAndDelete, GetMany, SetMany, DeleteMany, ListKeys)
}
"""Request types by the name of the operation on the wire."""
