"""The operations of the protocol, read from the head of a request. Pure.

The client escapes nothing, and a key is everything behind `/keys/`, as it is: `%41` is three characters, and `?` is one of a
name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs

import msgspec

from contracts.integers import U32_MAX
from provider.state_proxy.http1 import RequestHead
from provider.state_proxy.refusals import (
    BAD_REQUEST,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    PERMISSION_DENIED,
    UNSUPPORTED_ATTRIBUTE,
    RequestRefusedError,
)

VERSION = "version"
TTL = "ttl"
ATTRIBUTES = (TTL, VERSION)

NEVER = -1
"""The `ttl` of a file that does not expire."""

_MAX_QUERY_FIELDS = 16
"""The protocol uses at most two; a client may add its own."""

_AUTHORITY = re.compile(r"\Ahttps?://[^/?#]*", re.IGNORECASE)
_TARGET = re.compile(r"/([^/?]*)/?(.*)", re.DOTALL)
"""A path's first part, and the key or the query behind it."""

_LISTING = re.compile(r"\?prefix=(.*)&delimiter=/", re.DOTALL)
"""The only query for a listing that the runtime sends. Its prefix is not escaped, whatever characters it has."""

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,10}\Z")


class ReadFile(NamedTuple):
    """Return the content of a file."""

    key: str


class WriteFile(NamedTuple):
    """Write a file. `is_exclusive`: only if it does not exist."""

    key: str
    is_exclusive: bool


class StatFile(NamedTuple):
    """Return the size of a file, or report that the name is a folder because keys lie below it."""

    key: str


class DeleteFile(NamedTuple):
    """Delete a file."""

    key: str


class ListFiles(NamedTuple):
    """List the keys that begin with a prefix, cut after the first delimiter that follows it."""

    prefix: str
    delimiter: str


class ListAttributes(NamedTuple):
    """Return the names of a file's attributes."""

    key: str


class ReadAttribute(NamedTuple):
    """Return an attribute of a file. `name` is one of `ATTRIBUTES`."""

    key: str
    name: str


class WriteTtl(NamedTuple):
    """Set the lifetime of a file, which is in the body of the request."""

    key: str


class QueryFiles(NamedTuple):
    """Search files by their content."""


class CheckHealth(NamedTuple):
    """Report whether the bucket answers."""


FileOperation = (
    ReadFile
    | WriteFile
    | StatFile
    | DeleteFile
    | ListFiles
    | ListAttributes
    | ReadAttribute
    | WriteTtl
    | QueryFiles
    | CheckHealth
)

READS = (ReadFile, StatFile, ListFiles, ListAttributes, ReadAttribute)
CHANGES = (WriteFile, DeleteFile, WriteTtl)


def operation_of(head: RequestHead) -> FileOperation:
    """Return the operation that a request asks for. Its `Host` does not matter: the socket has one connector.

    Raises:
        RequestRefusedError: There is no operation for the path, the method or the query.
    """
    target = head.target if head.target.startswith("/") else _AUTHORITY.sub("", head.target, count=1)
    found = _TARGET.fullmatch(target)
    area, rest = found.groups() if found is not None else ("", "")
    routes = _ROUTES.get((area, rest[:1] not in ("", "?")))
    if routes is None:
        raise RequestRefusedError(NOT_FOUND, "no such path")
    make = routes.get(head.method)
    if make is None:
        allowed = ", ".join(sorted(routes))
        raise RequestRefusedError(METHOD_NOT_ALLOWED, f"{head.method} is not for this path, only {allowed}")
    return make(rest, head)


def ttl_of(body: bytes) -> int:
    """Return the seconds in the body of a `WriteTtl`; 0: remove the file; `NEVER`: keep it.

    Raises:
        RequestRefusedError: The body is not a valid `ttl`.
    """
    try:
        value = str(_ttl_decoder.decode(body).value).strip()
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RequestRefusedError(BAD_REQUEST, 'expected JSON like {"value": "60"}') from None
    if not _WHOLE_NUMBER.match(value) or not NEVER <= int(value) <= U32_MAX:
        reason = f"expected a ttl of 0 to {U32_MAX} whole seconds, or {NEVER} for none"
        raise RequestRefusedError(BAD_REQUEST, reason)
    return int(value)


class _AttributeBody(msgspec.Struct, frozen=True):
    value: str | int


_ttl_decoder = msgspec.json.Decoder(_AttributeBody)

_Make = Callable[[str, RequestHead], FileOperation]


def _of_key(kind: Callable[[str], FileOperation]) -> _Make:
    """Return a route whose operation depends only on the key."""

    def make(key: str, head: RequestHead) -> FileOperation:
        return kind(key)

    return make


def _always(operation: FileOperation) -> _Make:
    """Return a route whose operation depends on nothing."""

    def make(rest: str, head: RequestHead) -> FileOperation:
        return operation

    return make


def _fields(query: str) -> dict[str, list[str]]:
    try:
        return parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        raise RequestRefusedError(BAD_REQUEST, "the query is not UTF-8, or has too many fields") from None


def _list_files(query: str, head: RequestHead) -> FileOperation:
    found = _LISTING.fullmatch(query)
    if found is not None:
        return ListFiles(found[1], "/")
    fields = _fields(query[1:])
    return ListFiles(fields.get("prefix", [""])[0], fields.get("delimiter", [""])[0] or "/")


def _write(key: str, head: RequestHead) -> FileOperation:
    if head.if_none_match not in ("", "*"):
        raise RequestRefusedError(BAD_REQUEST, "If-None-Match can only be *")
    return WriteFile(key, head.if_none_match == "*")


def _stat_mount(query: str, head: RequestHead) -> FileOperation:
    return StatFile("") if not query else _no_key(query, head)


def _no_key(query: str, head: RequestHead) -> FileOperation:
    raise RequestRefusedError(NOT_FOUND, "a key is not empty and does not begin with a question mark")


def _read_attribute(rest: str, head: RequestHead) -> FileOperation:
    key, name = _key_and_attribute(rest)
    return ListAttributes(key) if name is None else ReadAttribute(key, _known(name))


def _write_attribute(rest: str, head: RequestHead) -> FileOperation:
    key, name = _key_and_attribute(rest)
    if name is None:
        raise RequestRefusedError(BAD_REQUEST, "the query needs attr=NAME")
    if _known(name) != TTL:
        raise RequestRefusedError(PERMISSION_DENIED, f"attribute {VERSION!r} is read-only")
    return WriteTtl(key)


def _key_and_attribute(rest: str) -> tuple[str, str | None]:
    """Split at the query, which the runtime puts behind a key that may have question marks itself."""
    key, mark, name = rest.rpartition("?attr=")
    if mark:
        return key, name.partition("&")[0]
    key, _, query = rest.partition("?")
    names = _fields(query).get("attr")
    return (key, names[0]) if names else (rest, None)


def _known(name: str) -> str:
    if name not in ATTRIBUTES:
        raise RequestRefusedError(UNSUPPORTED_ATTRIBUTE, f"no such attribute, only {' and '.join(ATTRIBUTES)}")
    return name


_ROUTES: dict[tuple[str, bool], dict[str, _Make]] = {
    ("keys", True): {"GET": _of_key(ReadFile), "PUT": _write, "HEAD": _of_key(StatFile), "DELETE": _of_key(DeleteFile)},
    ("keys", False): {"GET": _list_files, "PUT": _no_key, "HEAD": _stat_mount, "DELETE": _no_key},
    ("meta", True): {"GET": _read_attribute, "PUT": _write_attribute},
    ("meta", False): {"GET": _no_key, "PUT": _no_key},
    ("query", False): {"POST": _always(QueryFiles())},
    ("healthz", False): {"GET": _always(CheckHealth()), "HEAD": _always(CheckHealth())},
}
"""The methods of a path, by its first part and whether a key follows."""
