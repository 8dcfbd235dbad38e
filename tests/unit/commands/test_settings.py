"""`keyvalue-nats settings`: all settings, or one explained."""

from __future__ import annotations

import json

import pytest

from provider.commands.errors import ArgumentsError
from provider.commands.settings.command import plain, settings_command
from provider.commands.settings.setting_table import settings


def test_every_setting_has_a_line_and_no_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    settings_command()
    printed = capsys.readouterr().out
    assert {one.name for one in settings()} <= set(printed.split())
    assert "`" not in printed
    assert "](" not in printed


@pytest.mark.parametrize("name", ["TTL", "ttl", " Ttl "])
def test_one_setting_is_explained_under_any_spelling(capsys: pytest.CaptureFixture[str], name: str) -> None:
    settings_command(name)
    printed = capsys.readouterr().out
    assert printed.startswith("TTL: link value, bucket\n")
    assert "Example:     30d\n" in printed


def test_an_alias_is_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    settings_command("nats-url", json=True)
    assert json.loads(capsys.readouterr().out)["name"] == "URL"


def test_an_unknown_setting_names_the_one_that_resembles_it() -> None:
    with pytest.raises(ArgumentsError, match="no setting 'max_in_flihgt'; did you mean max_in_flight\\?"):
        settings_command("max_in_flihgt")


def test_names_of_settings_are_unique() -> None:
    names = [name.upper() for one in settings() for name in (one.name, *one.aliases)]
    assert len(names) == len(set(names))


def test_markdown_is_removed_but_its_text_is_not() -> None:
    assert plain("A [size](#sizes), as `512K`.") == "A size, as 512K."
