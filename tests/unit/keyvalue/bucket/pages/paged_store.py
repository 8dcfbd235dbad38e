"""A key with a paged value in memory: the operations as the bucket carries them out, checked after every change."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TypeVar

from contracts import keyvalue as kv
from contracts.codec import pack_struct
from contracts.encoded_texts import EncodedTexts
from contracts.operations import decode_response, encode_response
from provider import errors
from provider.keyvalue.bucket.pages.head import decode_head, encode_head
from provider.keyvalue.bucket.pages.page_codec import (
    NODE_OVERHEAD_BYTES,
    Child,
    decode_elements,
    decode_node,
    encoded_size,
    hash_prefix,
)
from provider.keyvalue.bucket.pages.paged_value import PAUSE, Head, Operation, PageId, page_prefix
from provider.keyvalue.bucket.pages.settling import PageSizes, settle
from provider.keyvalue.bucket.pages.tree_reads import reachable_pages, root_of
from provider.keyvalue.bucket.pages.working_copy import working_copy
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.payloads import encode_payload
from provider.keyvalue.tables import CHANGES
from provider.keyvalue.values import Answer

Result = TypeVar("Result")

KEY = "key"


def run(operation: Operation[Result], pages: Mapping[PageId, bytes], rounds: list[int] | None = None) -> Result:
    """Carry out an operation; count the pages of each round in `rounds`."""
    try:
        wanted = next(operation)
        while True:
            assert len(set(wanted.now)) == len(wanted.now)
            assert wanted.now or wanted is PAUSE
            assert not set(wanted.soon) - set(pages)
            if rounds is not None and wanted.now:
                rounds.append(len(wanted.now))
            wanted = operation.send({page_id: pages[page_id] for page_id in wanted.now})
    except StopIteration as end:
        result: Result = end.value
        return result


def texts(
    operation: Operation[EncodedTexts], pages: Mapping[PageId, bytes], rounds: list[int] | None = None
) -> list[str]:
    """Carry out an operation that returns texts, and return them as the caller sees them."""
    found = run(operation, pages, rounds)
    encoded = bytes(encode_response(found))
    decoded: list[str] = decode_response(kv.SetQuery, encoded)
    assert encoded == pack_struct(decoded)
    assert found.count == len(decoded)
    return decoded


def answer() -> Answer:
    return Answer("Get", 2**40)


class PagedKey:
    """One key, changed by batches.

    Attributes:
        value: The value as decoded from the bucket: its data may be a `Head`.
        pages: All pages of the key.
    """

    def __init__(self, sizes: PageSizes, most_text_bytes: int, bucket_key: str = KEY) -> None:
        self.value: Value | None = None
        self.pages: dict[PageId, bytes] = {}
        self.sizes = sizes
        self._most_text_bytes = most_text_bytes
        self._bucket_key = bucket_key
        self._operations = itertools.count()

    @property
    def head(self) -> Head:
        assert self.value is not None
        assert isinstance(self.value.data, Head)
        return self.value.data

    @property
    def is_paged(self) -> bool:
        return self.value is not None and isinstance(self.value.data, Head)

    def change(self, batch: Sequence[kv.SingleKeyRequest]) -> list[object]:
        """Carry out the changes of a batch; return the result or the class of the error of each."""
        value = self.value.copy() if self.value is not None else None
        if value is not None and isinstance(value.data, Head):
            value.data = run(working_copy(value.data, batch, set()), self.pages)
        results, value = changed(batch, value)
        self._store(value)
        return results

    def _store(self, value: Value | None) -> None:
        prefix = page_prefix(self._bucket_key, b"op.%d" % next(self._operations))
        if value is None or self._is_one_message(value):
            self.value, self.pages = value, {}
            return
        edit = run(settle(value, self.sizes, prefix), self.pages)
        assert edit.value is not None
        assert not set(edit.pages) & set(self.pages)
        assert all(page_id.startswith(prefix) for page_id in edit.pages)
        if edit.replaces_all:
            assert not edit.replaced
            self.pages = {}
        if isinstance(edit.value.data, Head):
            self.pages.update(edit.pages)
            for page_id in edit.replaced:
                del self.pages[page_id]
            assert decode_head(encode_head(edit.value.data)) == edit.value.data
            self.value = edit.value
            check_tree(self.head, self.pages, self.sizes)
        else:
            assert edit.replaces_all
            assert not edit.pages
            self.value = edit.value

    def _is_one_message(self, value: Value) -> bool:
        if isinstance(value.data, (list, dict)):
            return len(encode_payload(value)) <= self.sizes.inline
        return isinstance(value.data, (int, str)) and len(encode_payload(value)) <= self._most_text_bytes


def changed(batch: Sequence[kv.SingleKeyRequest], value: Value | None) -> tuple[list[object], Value | None]:
    """Apply changes one after the other, as the engine does; return the results or classes of errors, and the value."""
    results: list[object] = []
    for request in batch:
        try:
            value, result, _, _ = CHANGES[type(request)](request, value, 0)
        except errors.StoreError as error:
            result = type(error)
        results.append(result)
    return results, value


def check_tree(head: Head, pages: Mapping[PageId, bytes], sizes: PageSizes) -> None:
    """Check everything that holds for a tree after any change."""
    assert run(reachable_pages(head), pages) == set(pages)
    _check_node(root_of(head), head.height, head, pages, sizes)


def _check_node(
    child: Child, level: int, head: Head, pages: Mapping[PageId, bytes], sizes: PageSizes
) -> tuple[str, str]:
    """Check a node and all below it; return its first and last element."""
    payload = pages[child.page_id]
    assert child.size in {0, len(payload)}
    if level == 1:
        if head.kind is Kind.TEXT:
            assert 0 < len(payload) == child.length <= sizes.piece
            return "", ""
        elements = decode_elements(child, payload)
        assert elements
        assert len(payload) <= sizes.page or len(elements) == 1
        if head.kind is Kind.SET:
            assert elements == sorted(set(elements))
        return elements[0], elements[-1]
    node = decode_node(child, payload, head.kind)
    children = node.children(hash_prefix(child.page_id), child.low)
    assert len(payload) <= max(sizes.page, NODE_OVERHEAD_BYTES) or len(children) <= 2
    is_root = child.page_id == head.root
    assert len(children) > 1 or not is_root
    first, last = "", ""
    for index, below in enumerate(children):
        start, end = _check_node(below, level - 1, head, pages, sizes)
        if index and head.kind is Kind.SET:
            assert last < below.low <= start
            assert below.low == start[: len(below.low)] or not start.startswith(below.low)
        if index and not (head.kind is Kind.TEXT and level == 2):
            most = (sizes.piece if head.kind is Kind.TEXT else sizes.page) * 3 // 4
            low_bytes = encoded_size(below.low) if level > 2 and head.kind is Kind.SET else 0
            assert children[index - 1].size + low_bytes + below.size > most
        first, last = (first if index else start), end
    return first, last
