"""What each request asks for, and which are refused."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.state_proxy import operations as ops
from provider.state_proxy.errors import RefusedError
from provider.state_proxy.http import Head
from provider.state_proxy.operations import Operation, expires_of, operation_of

texts = st.text(st.characters(exclude_categories=["Cs"]))


def head(method: str, target: str, if_none_match: str = "") -> Head:
    return Head(method, target, 0, if_none_match, False, True, False)


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/keys/user_123.json", ops.Read("user_123.json")),
        ("GET", "/keys/a/b%2Fc%20d%C3%A9", ops.Read("a/b/c dé")),
        ("GET", "/keys/a?prefix=b", ops.Read("a")),
        ("GET", "/keys//a", ops.Read("/a")),
        ("PUT", "/keys/a", ops.Write("a", False)),
        ("HEAD", "/keys/a", ops.Stat("a")),
        ("HEAD", "/keys/", ops.Stat("")),
        ("DELETE", "/keys/a", ops.Delete("a")),
        ("GET", "/keys/", ops.ListKeys("", "")),
        ("GET", "/keys", ops.ListKeys("", "")),
        ("GET", "/keys/?prefix=a%2F&delimiter=%2F", ops.ListKeys("a/", "/")),
        ("GET", "/keys/?prefix=&delimiter=", ops.ListKeys("", "")),
        ("GET", "/meta/a/b", ops.ListAttributes("a/b")),
        ("GET", "/meta/a?attr=version", ops.ReadAttribute("a", "version")),
        ("GET", "/meta/a?attr=ttl", ops.ReadAttribute("a", "ttl")),
        ("PUT", "/meta/a?attr=ttl", ops.WriteTtl("a")),
        ("POST", "/query", ops.Query()),
        ("GET", "/healthz", ops.Health()),
        ("GET", "http://x/keys/http://a/b.json", ops.Read("http://a/b.json")),
        ("GET", "HTTPS://user@x:80/keys/?prefix=a/b", ops.ListKeys("a/b", "")),
    ],
)
def test_a_request_asks_for(method: str, target: str, operation: Operation) -> None:
    assert operation_of(head(method, target)) == operation


def test_a_write_for_what_is_not_there_says_so() -> None:
    assert operation_of(head("PUT", "/keys/a", "*")) == ops.Write("a", True)


@given(texts.filter(bool), texts, texts)
def test_any_key_prefix_and_delimiter_comes_through(key: str, prefix: str, delimiter: str) -> None:
    assert operation_of(head("GET", f"/keys/{quote(key)}")) == ops.Read(key)
    query = urlencode({"prefix": prefix, "delimiter": delimiter})
    assert operation_of(head("GET", f"/keys/?{query}")) == ops.ListKeys(prefix, delimiter)


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
        ("GET", "/meta/", "bad_request"),
        ("GET", "/meta/?attr=ttl", "bad_request"),
        ("PUT", "/meta/?attr=ttl", "bad_request"),
        ("DELETE", "/meta/", "method_not_allowed"),
        ("POST", "/keys/a", "method_not_allowed"),
        ("GET", "/query", "method_not_allowed"),
        ("PUT", "/keys/", "bad_request"),
        ("DELETE", "/keys/", "bad_request"),
        ("GET", "/keys/%ff", "bad_request"),
        ("GET", "/keys/?prefix=%ff", "bad_request"),
        ("GET", "/keys/?" + "a=1&" * 100, "bad_request"),
        ("PUT", "/meta/a", "bad_request"),
        ("GET", "/meta/a?attr=size", "unsupported_attribute"),
        ("PUT", "/meta/a?attr=size", "unsupported_attribute"),
        ("PUT", "/meta/a?attr=version", "permission_denied"),
    ],
)
def test_a_request_is_refused(method: str, target: str, code: str) -> None:
    with pytest.raises(RefusedError) as caught:
        operation_of(head(method, target))
    assert caught.value.code == code


def test_only_the_star_is_a_condition_of_a_write() -> None:
    with pytest.raises(RefusedError) as caught:
        operation_of(head("PUT", "/keys/a", '"etag"'))
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize(
    ("body", "seconds"),
    [(b'{"value":"60"}', 60), (b'{"value":60}', 60), (b'{"value":"-1"}', 0), (b'{"value":"4294967295"}', 2**32 - 1)],
)
def test_a_ttl_is_set_to(body: bytes, seconds: int) -> None:
    assert expires_of(body) == seconds


@pytest.mark.parametrize(
    "body",
    [
        b"", b"60", b"{}", b"[", b'{"value":null}', b'{"value":""}', b'{"value":"0"}', b'{"value":"-2"}', b'{"value":"1.5"}',
        b'{"value":"4294967296"}', b'{"value":"1 "}', b'{"value":"\xff"}', b'{"value":"\xd9\xa1"}', b'{"value":' + b"9" * 400 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_ttl_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        expires_of(body)
    assert caught.value.code == "bad_request"
