"""The private names of nats-py that provider/nats uses exist and have the expected form."""

from __future__ import annotations

import inspect

import pytest
from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.protocol.parser import Parser


@pytest.mark.parametrize(
    "name",
    [
        "_process_op_err",
        "_process_err",
        "_process_msg",
        "_process_pong",
        "_process_info",
        "_close",
        "_process_connect_init",
        "flush",
        "subscribe",
        "force_reconnect",
    ],
)
def test_the_client_has_the_coroutine(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(Client, name))


def test_the_client_has_the_attributes() -> None:
    client = Client()
    names = [
        "_ps",
        "_subs",
        "_sid",
        "_status",
        "_transport",
        "_max_payload",
        "_server_info",
        "_reconnection_task",
        "_reading_task",
        "_ping_interval_task",
        "_flusher_task",
        "_err",
    ]
    assert [name for name in names if not hasattr(client, name)] == []
    assert client._status == Client.DISCONNECTED
    assert "_remove_sub" in dir(client)


def test_the_client_takes_messages_and_errors_in_the_form_that_the_replacements_pass() -> None:
    assert list(inspect.signature(Client._process_msg).parameters) == [
        "self",
        "sid",
        "subject",
        "reply",
        "data",
        "headers",
    ]
    assert list(inspect.signature(Client._process_err).parameters) == ["self", "err_msg"]
    assert list(inspect.signature(Client._process_op_err).parameters) == ["self", "e"]


def test_the_parser_has_the_methods_of_the_replacement() -> None:
    assert inspect.iscoroutinefunction(Parser.parse)
    assert list(inspect.signature(Parser.parse).parameters) == ["self", "data"]
    assert list(inspect.signature(Parser.reset).parameters) == ["self"]


def test_the_transport_has_the_streams_that_the_replacement_sets() -> None:
    transport = TcpTransport()  # type: ignore[no-untyped-call]
    names = ["_bare_io_reader", "_bare_io_writer", "_io_reader", "_io_writer"]
    assert [getattr(transport, name) for name in names] == [None] * 4


def test_the_client_connects_through_the_coroutine_that_is_replaced() -> None:
    assert list(inspect.signature(Client._connect_to_server).parameters) == ["self", "s"]
    assert "self._connect_to_server(" in inspect.getsource(Client._select_next_server)
