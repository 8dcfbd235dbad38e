"""What actors may call beyond the fifteen operations, with the names and meanings of wasi:keyvalue where it has them.

The arguments and answers are MessagePack as those of wasmcloud:keyvalue are; every field is required.

Source: WebAssembly/wasi-keyvalue, wit/store.wit, atomics.wit, batch.wit (0.2.0-draft2).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from contracts.keyvalue import U32, KeyRequest, KeysRequest, Request, SingleKeyRequest

STORE, ATOMICS, BATCH, WATCH = "KeyValueStore", "KeyValueAtomics", "KeyValueBatch", "KeyValueWatch"

MAX_PAGE_KEYS = 10_000
Revision = Annotated[int, Meta(ge=0)]
PageKeys = Annotated[int, Meta(ge=1, le=MAX_PAGE_KEYS)]


class EntryResponse(Struct, frozen=True, gc=False):
    """What stands under a key.

    Attributes:
        value: A text, a counter's decimal text, a list or a set as a JSON array; "" when there is nothing.
        kind: `text`, `counter`, `list` or `set`; "" when there is nothing.
        revision: Of the entry; 0 when there is nothing.
        expires: Seconds left, rounded up; 0: never.
    """

    exists: bool
    value: str
    kind: str
    revision: int
    expires: int


class SwapResponse(Struct, frozen=True, gc=False):
    """Whether it was done, and the revision that stands there now; 0: nothing stands there."""

    success: bool
    revision: int


class GetEntry(KeyRequest, frozen=True, gc=False):
    """Read an entry of any kind with its revision: wasi's `cas.new` and `cas.current` in one."""

    interface = ATOMICS
    response_type = EntryResponse


class Create(SingleKeyRequest, frozen=True, gc=False):
    """Put a text where nothing is. With `expires`, in seconds, that is a lock; 0: never."""

    value: str
    expires: U32
    interface = ATOMICS
    response_type = SwapResponse


class CompareAndSwap(SingleKeyRequest, frozen=True, gc=False):
    """Put a text where an entry of that revision stands; revision 0: where nothing is."""

    value: str
    expires: U32
    revision: Revision
    interface = ATOMICS
    response_type = SwapResponse


class CompareAndDelete(SingleKeyRequest, frozen=True, gc=False):
    """Delete an entry if it is of that revision: how the owner of a lock gives it back."""

    revision: Revision
    interface = ATOMICS
    response_type = SwapResponse


class GetResult(Struct, frozen=True, gc=False):
    """One of many; with an `error`, nothing else counts."""

    key: str
    value: str
    exists: bool
    error: str | UnsetType = UNSET


class ChangeResult(Struct, frozen=True, gc=False):
    """One of many. `existed`: whether something was there to delete; true for what was set."""

    key: str
    done: bool
    error: str | UnsetType = UNSET


class GetMany(KeysRequest, frozen=True, gc=False):
    """Read texts and numbers; answers in the order of the keys."""

    interface = BATCH
    response_type = list[GetResult]


class DeleteMany(KeysRequest, frozen=True, gc=False):
    """Delete values of any kind; each by itself."""

    interface = BATCH
    response_type = list[ChangeResult]


class Item(Struct, frozen=True, gc=False):
    """A text to set; `expires` in seconds, 0: never."""

    key: str
    value: str
    expires: U32


class SetMany(Request, frozen=True, gc=False):
    """Put texts; each by itself."""

    items: list[Item]
    interface = BATCH
    response_type = list[ChangeResult]


class ListKeysResponse(Struct, frozen=True, gc=False):
    """A page of keys. `cursor` is where the next one begins; "": this was the last."""

    keys: list[str]
    cursor: str


class ListKeys(Request, frozen=True, gc=False):
    """List keys that begin with a text, a page at a time; the first page has the cursor ""."""

    prefix: str
    cursor: str
    limit: PageKeys
    interface = STORE
    response_type = ListKeysResponse


class HandleChange(SingleKeyRequest, frozen=True, gc=False):
    """A change of a key that an actor watches: the provider calls the actor with it. Nothing is answered.

    Attributes:
        kind: Of the value that is there now, as in `EntryResponse`; "" when there is none.
        value: As in `EntryResponse`; "" also for a value that is no text.
        operation: `put`, `delete` or `expire`.
    """

    kind: str
    value: str
    revision: int
    operation: str
    interface = WATCH
    response_type = None


HANDLE_CHANGE = f"{WATCH}.{HandleChange.__name__}"
"""The operation that a provider calls."""

REQUESTS: dict[str, type[Request]] = {
    f"{type_.interface}.{type_.__name__}": type_
    for type_ in (GetEntry, Create, CompareAndSwap, CompareAndDelete, GetMany, SetMany, DeleteMany, ListKeys)
}
"""Operation name on the wire -> request type."""
