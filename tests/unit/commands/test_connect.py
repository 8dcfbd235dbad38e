"""Connection options of the commands, turned into settings."""

from __future__ import annotations

import pytest

from contracts.secret import Secret
from provider.commands import errors as kv_errors
from provider.commands.connect import ConnectionOptions, addresses, settings_of


def test_options_become_settings_and_never_show_a_secret() -> None:
    options = ConnectionOptions("ann:right@one, tls://two:4443", password=Secret("right"), user="ann", js_domain="hub")
    settings = settings_of(options)
    assert addresses(settings.servers) == "nats://one, tls://two:4443"
    assert (settings.user, settings.js_domain, settings.uses_tls) == ("ann", "hub", True)
    assert "right" not in repr(options)
    assert settings_of(ConnectionOptions("h", user="a-token")).token == Secret("a-token")
    for wrong, option in (
        (ConnectionOptions("http://h"), "--nats"),
        (ConnectionOptions(" , "), "--nats"),
        (ConnectionOptions("h", password=Secret("p")), "--password"),
        (ConnectionOptions("h", tls_cert="c"), "--tlscert"),
        (ConnectionOptions("h", tls_cert="/nowhere", tls_key="/nowhere"), "--tlscert"),
        (ConnectionOptions("h", tls_ca="/nowhere"), "--tlsca"),
        (ConnectionOptions("h", creds="/"), "--creds"),
        (ConnectionOptions("h", creds="~nobody-of-this-name/file"), "--creds"),
        (ConnectionOptions("h", nkey="/nowhere"), "--nkey"),
    ):
        with pytest.raises(kv_errors.OptionError) as caught:
            settings_of(wrong)
        assert caught.value.option == option
