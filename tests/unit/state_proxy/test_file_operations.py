"""The operation of each request, and the requests that are refused."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.state_proxy import file_operations as ops
from provider.state_proxy.file_operations import FileOperation, operation_of, ttl_of
from provider.state_proxy.http1 import RequestHead
from provider.state_proxy.refusals import RequestRefusedError

names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1).filter(
    lambda name: not name.startswith("?") and "attr=" not in name
)
"""Names that the runtime can send: printable ASCII without a space."""

texts = st.text(st.characters(exclude_categories=["Cs"]))


def head(method: str, target: str, if_none_match: str = "") -> RequestHead:
    return RequestHead(method, target, 0, if_none_match, False, True, False)


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/keys/user_123.json", ops.ReadFile("user_123.json")),
        ("GET", "/keys/a/b%2Fc%20d%C3%A9", ops.ReadFile("a/b%2Fc%20d%C3%A9")),
        ("GET", "/keys/a?prefix=b", ops.ReadFile("a?prefix=b")),
        ("GET", "/keys/a#b;c+d", ops.ReadFile("a#b;c+d")),
        ("GET", "/keys/%ff", ops.ReadFile("%ff")),
        ("GET", "/keys//a", ops.ReadFile("/a")),
        ("PUT", "/keys/a", ops.WriteFile("a", False)),
        ("HEAD", "/keys/a", ops.StatFile("a")),
        ("HEAD", "/keys/", ops.StatFile("")),
        ("DELETE", "/keys/a", ops.DeleteFile("a")),
        ("GET", "/keys/", ops.ListFiles("", "/")),
        ("GET", "/keys", ops.ListFiles("", "/")),
        ("GET", "/keys?prefix=a/b&delimiter=/", ops.ListFiles("a/b", "/")),
        ("GET", "/keys/?prefix=a%2Fb&delimiter=/", ops.ListFiles("a%2Fb", "/")),
        ("GET", "/keys/?prefix=u+v@x/a&b=c?d#e/&delimiter=/", ops.ListFiles("u+v@x/a&b=c?d#e/", "/")),
        ("GET", "/keys/?delimiter=/&prefix=a%2Bb+c", ops.ListFiles("a+b c", "/")),
        ("GET", "/keys/?prefix=a&delimiter=-", ops.ListFiles("a", "-")),
        ("GET", "/keys/?prefix=a%2F&delimiter=%2F", ops.ListFiles("a/", "/")),
        ("GET", "/keys/?prefix=&delimiter=", ops.ListFiles("", "/")),
        ("GET", "/meta/a/b", ops.ListAttributes("a/b")),
        ("GET", "/meta/a?attr=version", ops.ReadAttribute("a", "version")),
        ("GET", "/meta/a?attr=ttl", ops.ReadAttribute("a", "ttl")),
        ("PUT", "/meta/a?attr=ttl", ops.WriteTtl("a")),
        ("PUT", "/meta/a?attr=ttl&more=1", ops.WriteTtl("a")),
        ("GET", "/meta/a?more=1&attr=ttl", ops.ReadAttribute("a", "ttl")),
        ("GET", "/meta/a?b", ops.ListAttributes("a?b")),
        ("GET", "/meta/a%41?b?attr=ttl", ops.ReadAttribute("a%41?b", "ttl")),
        ("POST", "/query", ops.QueryFiles()),
        ("GET", "/healthz", ops.CheckHealth()),
        ("GET", "http://x/keys/http://a/b.json", ops.ReadFile("http://a/b.json")),
        ("GET", "HTTPS://user@x:80/keys/?prefix=a/b", ops.ListFiles("a/b", "/")),
    ],
)
def test_a_request_asks_for(method: str, target: str, operation: FileOperation) -> None:
    assert operation_of(head(method, target)) == operation


def test_a_write_may_require_that_the_file_does_not_exist() -> None:
    assert operation_of(head("PUT", "/keys/a", "*")) == ops.WriteFile("a", True)


@given(names)
def test_the_runtime_escapes_nothing_and_any_name_is_taken_literally(name: str) -> None:
    assert operation_of(head("GET", f"/keys/{name}")) == ops.ReadFile(name)
    assert operation_of(head("PUT", f"/keys/{name}")) == ops.WriteFile(name, False)
    assert operation_of(head("HEAD", f"/keys/{name}")) == ops.StatFile(name)
    assert operation_of(head("DELETE", f"/keys/{name}")) == ops.DeleteFile(name)
    assert operation_of(head("GET", f"/keys/?prefix={name}/&delimiter=/")) == ops.ListFiles(f"{name}/", "/")
    assert operation_of(head("GET", f"/meta/{name}?attr=ttl")) == ops.ReadAttribute(name, "ttl")
    assert operation_of(head("PUT", f"/meta/{name}?attr=ttl")) == ops.WriteTtl(name)


@given(texts, texts)
def test_any_other_query_for_a_listing_is_decoded(prefix: str, delimiter: str) -> None:
    query = urlencode({"delimiter": delimiter, "prefix": prefix})
    assert operation_of(head("GET", f"/keys/?{query}")) == ops.ListFiles(prefix, delimiter or "/")


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("GET", "/", "not_found"),
        ("GET", "*", "not_found"),
        ("GET", "keys/a", "not_found"),
        ("GET", "/healthz/a", "not_found"),
        ("GET", "http://localhost", "not_found"),
        ("GET", "ftp://localhost/keys/a", "not_found"),
        ("GET", "/http://localhost/keys/a", "not_found"),
        ("GET", "/meta/", "not_found"),
        ("GET", "/meta/?attr=ttl", "not_found"),
        ("PUT", "/meta/?attr=ttl", "not_found"),
        ("DELETE", "/meta/", "method_not_allowed"),
        ("POST", "/keys/a", "method_not_allowed"),
        ("GET", "/query", "method_not_allowed"),
        ("PUT", "/keys/", "not_found"),
        ("DELETE", "/keys/", "not_found"),
        ("PUT", "/keys/?a", "not_found"),
        ("HEAD", "/keys/?a", "not_found"),
        ("GET", "/keys/?prefix=%ff", "bad_request"),
        ("GET", "/keys/?" + "a=1&" * 100, "bad_request"),
        ("PUT", "/meta/a", "bad_request"),
        ("GET", "/meta/a?attr=size", "unsupported_attribute"),
        ("PUT", "/meta/a?attr=size", "unsupported_attribute"),
        ("PUT", "/meta/a?attr=version", "permission_denied"),
    ],
)
def test_a_request_is_refused(method: str, target: str, code: str) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        operation_of(head(method, target))
    assert caught.value.code == code


def test_a_write_with_any_condition_but_the_star_is_refused() -> None:
    with pytest.raises(RequestRefusedError) as caught:
        operation_of(head("PUT", "/keys/a", '"etag"'))
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b'{"value":"60"}', 60), (b'{"value":60}', 60), (b'{"value":"-1"}', ops.NEVER), (b'{"value":"0"}', 0),
        (b'{"value":0}', 0), (b'{"value":" 60\\n"}', 60), (b'{"value":"4294967295"}', 2**32 - 1),
    ],
)  # fmt: skip
def test_a_ttl_is_read_from_the_body(body: bytes, seconds: int) -> None:
    assert ttl_of(body) == seconds


@pytest.mark.parametrize(
    "body",
    [
        b"", b"60", b"{}", b"[", b'{"value":null}', b'{"value":""}', b'{"value":"-2"}', b'{"value":"1.5"}',
        b'{"value":"4294967296"}', b'{"value":"1 2"}', b'{"value":" "}', b'{"value":"\xff"}', b'{"value":"\xd9\xa1"}', b'{"value":' + b"9" * 400 + b"}",
    ],
)  # fmt: skip
def test_an_invalid_ttl_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        ttl_of(body)
    assert caught.value.code == "bad_request"
