"""The operations of a store by the type of their request, each as a function of the value at its key. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from contracts import keyvalue as kv
from contracts.extensions import GetMany
from provider.keyvalue import byte_values, values
from provider.keyvalue.kinds import Value
from provider.keyvalue.values import Change

Read = Callable[[Any, Value | None], Any]
"""Makes the result of a request and the value that it reads."""

READS: dict[type[kv.Request], Read] = {
    kv.Get: values.get,
    kv.Contains: values.contains,
    kv.ListRange: values.list_range,
    kv.SetQuery: values.set_query,
    byte_values.GetBytes: byte_values.get_bytes,
}
"""Operations that read one key."""

READS_OF_MANY: dict[type[kv.Request], Callable[[Any, Sequence[Value | None]], Any]] = {
    kv.SetUnion: values.set_union,
    kv.SetIntersection: values.set_intersection,
    GetMany: values.get_many,
    byte_values.GetBytesMany: byte_values.get_bytes_many,
}
"""Operations that read several keys; the values are in the order of the keys."""

CHANGES: dict[type[kv.Request], Callable[[Any, Value | None, int], Change]] = {
    kv.Set: values.set_text,
    kv.Del: values.delete,
    kv.Increment: values.increment,
    kv.ListAdd: values.list_add,
    kv.ListClear: values.list_clear,
    kv.ListDel: values.list_del,
    kv.SetAdd: values.set_add,
    kv.SetClear: values.set_clear,
    kv.SetDel: values.set_del,
    byte_values.SetBytes: byte_values.set_bytes,
    byte_values.IncrementU64: byte_values.increment_u64,
}
"""Operations that change one key."""

OVERWRITES = frozenset({kv.Set, byte_values.SetBytes})
"""Changes that do not depend on the value before."""
