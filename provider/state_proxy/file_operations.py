"""The operations of the protocol, read from the head of a request. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec

from contracts.keyvalue import U32_MAX
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
    """List the keys that begin with a prefix, cut after the first delimiter that follows it; "": uncut."""

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
    path, _, query = target.partition("?")
    area, _, rest = path.removeprefix("/").partition("/")
    routes = _ROUTES.get((area, bool(rest))) if path.startswith("/") else None
    if routes is None:
        raise RequestRefusedError(NOT_FOUND, "no such path")
    make = routes.get(head.method)
    if make is None:
        allowed = ", ".join(sorted(routes))
        raise RequestRefusedError(METHOD_NOT_ALLOWED, f"{head.method} is not for this path, only {allowed}")
    return make(_text(rest), _fields(query), head)


def expires_of(body: bytes) -> int:
    """Return the seconds in the body of a `WriteTtl`; 0: never.

    Raises:
        RequestRefusedError: The body is not a valid `ttl`.
    """
    try:
        value = str(_ttl_decoder.decode(body).value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RequestRefusedError(BAD_REQUEST, 'expected JSON like {"value": "60"}') from None
    seconds = int(value) if _WHOLE_NUMBER.match(value) else 0
    if seconds != NEVER and not 1 <= seconds <= U32_MAX:
        reason = f"expected a ttl of 1 to {U32_MAX} whole seconds, or {NEVER} for none"
        raise RequestRefusedError(BAD_REQUEST, reason)
    return max(seconds, 0)


class _AttributeBody(msgspec.Struct, frozen=True):
    value: str | int


_ttl_decoder = msgspec.json.Decoder(_AttributeBody)

_Fields = dict[str, list[str]]
_Make = Callable[[str, _Fields, RequestHead], FileOperation]


def _of_key(kind: Callable[[str], FileOperation]) -> _Make:
    """Return a route whose operation depends only on the key."""

    def make(key: str, fields: _Fields, head: RequestHead) -> FileOperation:
        return kind(key)

    return make


def _always(operation: FileOperation) -> _Make:
    """Return a route whose operation depends on nothing."""

    def make(key: str, fields: _Fields, head: RequestHead) -> FileOperation:
        return operation

    return make


def _text(escaped: str) -> str:
    """Decode percent-escapes."""
    if "%" not in escaped:
        return escaped
    try:
        return unquote_to_bytes(escaped).decode()
    except UnicodeDecodeError:
        raise RequestRefusedError(BAD_REQUEST, "the path is not UTF-8") from None


def _fields(query: str) -> _Fields:
    if not query:
        return {}
    try:
        return parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        raise RequestRefusedError(BAD_REQUEST, "the query is not UTF-8, or has too many fields") from None


def _list_files(key: str, fields: _Fields, head: RequestHead) -> FileOperation:
    return ListFiles(fields.get("prefix", [""])[0], fields.get("delimiter", [""])[0])


def _write(key: str, fields: _Fields, head: RequestHead) -> FileOperation:
    if head.if_none_match not in ("", "*"):
        raise RequestRefusedError(BAD_REQUEST, "If-None-Match can only be *")
    return WriteFile(key, head.if_none_match == "*")


def _no_key(key: str, fields: _Fields, head: RequestHead) -> FileOperation:
    raise RequestRefusedError(BAD_REQUEST, "key is empty")


def _read_attribute(key: str, fields: _Fields, head: RequestHead) -> FileOperation:
    if "attr" not in fields:
        return ListAttributes(key)
    return ReadAttribute(key, _attribute(fields["attr"][0]))


def _write_attribute(key: str, fields: _Fields, head: RequestHead) -> FileOperation:
    if "attr" not in fields:
        raise RequestRefusedError(BAD_REQUEST, "the query needs attr=NAME")
    if _attribute(fields["attr"][0]) != TTL:
        raise RequestRefusedError(PERMISSION_DENIED, f"attribute {VERSION!r} is read-only")
    return WriteTtl(key)


def _attribute(name: str) -> str:
    if name not in ATTRIBUTES:
        raise RequestRefusedError(UNSUPPORTED_ATTRIBUTE, f"no such attribute, only {' and '.join(ATTRIBUTES)}")
    return name


_ROUTES: dict[tuple[str, bool], dict[str, _Make]] = {
    ("keys", True): {"GET": _of_key(ReadFile), "PUT": _write, "HEAD": _of_key(StatFile), "DELETE": _of_key(DeleteFile)},
    ("keys", False): {"GET": _list_files, "PUT": _no_key, "HEAD": _of_key(StatFile), "DELETE": _no_key},
    ("meta", True): {"GET": _read_attribute, "PUT": _write_attribute},
    ("meta", False): {"GET": _no_key, "PUT": _no_key},
    ("query", False): {"POST": _always(QueryFiles())},
    ("healthz", False): {"GET": _always(CheckHealth()), "HEAD": _always(CheckHealth())},
}
"""The methods of a path, by its first part and whether a key follows."""
