"""The status of each error, and the variables of the environment."""

from __future__ import annotations

import json

import nkeys
import pytest
from nacl.signing import SigningKey

from contracts.secret import Secret
from provider import errors
from provider.keyvalue.link_config import BucketConfig
from provider.nats.settings import ConnectionSettings
from provider.state_proxy.environment import ConnectorSettings, connector_settings
from provider.state_proxy.launch import start
from provider.state_proxy.refusals import RequestRefusedError, refusal_of

SEED = nkeys.encode_seed(bytes(SigningKey(bytes(32))), nkeys.PREFIX_BYTE_USER).decode()
GIVEN = {"CONNECTOR_SOCKET": "/run/a.sock", "NATS_URL": "nats://hidden@one:4222, two", "NATS_KV_BUCKET": "state"}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RequestRefusedError("conflict", "x"), 409, "conflict"),
        (errors.EmptyKeyError(), 400, "bad_request"),
        (errors.KeyTooLongError(4000, 3500), 400, "bad_request"),
        (errors.ValueTooLargeError("a", 2, "max", 1), 413, "too_large"),
        (errors.StoreForbiddenError("permissions violation"), 403, "permission_denied"),
        (errors.StoreRefusedError("invalid operation on sealed stream"), 500, "internal_error"),
        (errors.StoreFullError("maximum bytes exceeded"), 500, "internal_error"),
        (errors.StoreUnreachableError("not connected"), 503, "unavailable"),
        (errors.LinkUnavailableError("no bucket"), 503, "unavailable"),
        (errors.StoreTimeoutError(3000, "silent"), 504, "timeout"),
        (errors.OutcomeUnknownError("no reply"), 504, "timeout"),
    ],
)
def test_an_error_has_a_status_a_code_and_a_message(error: errors.ProviderError, status: int, code: str) -> None:
    answer = refusal_of(error, is_connected=True)
    assert answer.status == status
    assert json.loads(answer.body) == {"error": code, "message": str(error)}


@pytest.mark.parametrize("error", [errors.StoreTimeoutError(3000, "silent"), errors.OutcomeUnknownError("lost")])
def test_a_timeout_counts_as_unavailable_while_nats_cannot_be_reached(error: errors.ProviderError) -> None:
    assert refusal_of(error, is_connected=False).status == 503


def test_the_environment_gives_the_socket_and_the_bucket() -> None:
    more = {"STATE_PREFIX": "cache-actor.", "NATS_CREDS_FILE": "/etc/a.creds", "HOME": "/"}
    assert connector_settings(GIVEN | more) == ConnectorSettings(
        "/run/a.sock",
        ConnectionSettings(("nats://hidden@one:4222", "nats://two"), creds_file="/etc/a.creds"),
        BucketConfig("state", is_created=False),
        "cache-actor",
    )


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_named(name: str, value: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    rest = {other: text for other, text in GIVEN.items() if other != name}
    assert start(rest if value is None else rest | {name: value}) == 1
    assert capsys.readouterr().err == f"keyvalue-nats state-proxy: {name}: not set\n"


@pytest.mark.parametrize(
    ("name", "value"), [("NATS_URL", "http://hidden@x"), ("NATS_URL", ","), ("NATS_KV_BUCKET", "hidden bucket")]
)
def test_a_wrong_variable_is_named_and_its_value_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(errors.StartupError) as caught:
        connector_settings(GIVEN | {name: value})
    assert str(caught.value).startswith(f"{name}: expected")
    assert "hidden" not in str(caught.value)


def test_credentials_of_a_variable_are_those_of_the_connection() -> None:
    jwt, seed = Secret("eyJhidden"), Secret(SEED)
    given = connector_settings(GIVEN, (jwt, seed)).connection
    assert (given.client_jwt, given.client_seed) == (jwt, seed)
    with pytest.raises(errors.StartupError, match="NATS_CREDS: cannot be given together with NATS_CREDS_FILE"):
        connector_settings(GIVEN | {"NATS_CREDS_FILE": "/etc/a.creds"}, (jwt, seed))
