"""Modules that each mode loads when it starts: every other one costs time, and the memory of a sidecar."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider.commands import connection_file
from provider.commands.dev_lattice.start import make_identity
from tests.blackbox.nats.nats_server import NatsServer

WATCHED = (
    "aiohttp",
    "asyncio",
    "cryptography",
    "email.parser",
    "importlib.metadata",
    "jwt",
    "matplotlib",
    "msgspec",
    "nacl",
    "nats",
    "nkeys",
    "opentelemetry",
    "pydantic",
    "rich",
    "ssl",
    "typer",
    "uvloop",
)
"""Everything that takes more than a few milliseconds."""

CHECK = """
import sys
sys.argv = ["keyvalue-nats", *{arguments}]
import provider.__main__
code = provider.__main__.main()
sys.stderr.write(" ".join(sys.modules))
sys.exit(code)
"""


def loaded(*arguments: str, code: int = 0, environment: dict[str, str] | None = None) -> set[str]:
    """Return the modules that are loaded when a command ends."""
    done = subprocess.run(
        [sys.executable, "-c", CHECK.format(arguments=arguments)],
        stdin=subprocess.DEVNULL,
        env=environment or {},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return set(done.stderr.rpartition("\n")[2].split())


def heavy(modules: set[str]) -> set[str]:
    return modules & {*WATCHED}


def own(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith(("provider.", "contracts."))}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.stop()


def test_help_in_a_pipe_loads_its_page_alone() -> None:
    for words, pages in ((), "pages"), (("call",), "pages"), (("kv",), "kv_pages"), (("kv", "get"), "kv_pages"):
        modules = loaded(*words, "--help")
        assert heavy(modules) == set()
        assert own(modules) == {
            "provider.__main__",
            "provider.interrupts",
            *(f"provider.help_pages{name}" for name in ("", ".stored", ".style", f".{pages}")),
        }


def test_help_of_another_width_loads_the_grammar_of_the_command_line_and_no_command() -> None:
    modules = loaded("--help", environment={"COLUMNS": "60"})
    assert heavy(modules) == {"typer"}
    assert own(modules) == {
        "provider.__main__",
        "provider.commands",
        "provider.commands.app",
        "provider.commands.command_line",
        "provider.commands.errors",
        "provider.interrupts",
        "provider.commands.printing",
        "provider.errors",
        "provider.plain_text",
        "provider.help_pages",
        "provider.help_pages.pages",
        "provider.help_pages.stored",
        "provider.help_pages.style",
        "provider.nats",
        "provider.nats.light_import",
        "provider.suggestions",
    }


@pytest.fixture
def place(server: NatsServer, tmp_path: Path) -> dict[str, str]:
    """The environment variables of a bucket `b` with a key `k`."""
    place = {"NATS_URL": server.url, "XDG_RUNTIME_DIR": str(tmp_path)}
    loaded("kv", "add", "b", environment=place)
    loaded("kv", "put", "b", "k", "v", environment=place)
    return place


def test_a_plain_read_of_a_bucket_loads_no_library(place: dict[str, str]) -> None:
    for form in ([], ["--json"], ["--raw"]):
        modules = loaded("kv", "get", "b", "k", *form, environment=place)
        assert heavy(modules) == set()
        assert not {name for name in own(modules) if "open_bucket" in name or "jetstream" in name}


def test_a_read_of_a_development_lattice_loads_no_library(server: NatsServer, place: dict[str, str]) -> None:
    folder = {"XDG_RUNTIME_DIR": place["XDG_RUNTIME_DIR"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder["XDG_RUNTIME_DIR"])
        with connection_file.announced(make_identity("default", "default"), server.url):
            assert heavy(loaded("kv", "get", "b", "k", environment=folder)) == set()


def test_a_read_of_a_bucket_loads_what_talks_to_nats_and_no_other_command(place: dict[str, str]) -> None:
    modules = loaded("kv", "get", "b", "k", "--timeout", "5s", environment=place)
    assert heavy(modules) == {"asyncio", "msgspec", "nats", "ssl", "typer", "uvloop"}
    assert {name.split(".")[1] for name in own(modules) if name.startswith("provider.")} == {
        *("__main__", "commands", "errors", "help_pages", "interrupts", "keyvalue", "logs", "nats", "plain_text"),
        *("room", "streaks", "suggestions", "tasks", "units"),
    }
    assert {name.split(".")[2] for name in own(modules) if name.startswith("provider.commands.")} == {
        *("app", "command_line", "connect", "errors", "kv", "options", "output", "patience", "printing"),
        *("tables", "target", "value_sources"),
    }


def test_a_call_loads_what_signs_it_and_no_jetstream(tmp_path: Path) -> None:
    modules = loaded("call", "SetMany", "a=1", "b=2", code=1, environment={"XDG_RUNTIME_DIR": str(tmp_path)})
    assert heavy(modules) - {"ssl", "email.parser"} == {
        "asyncio",
        "cryptography",
        "jwt",
        "msgspec",
        "nacl",
        "nats",
        "nkeys",
        "typer",
    }
    assert not {name for name in modules if name.startswith("nats.js.")}


def test_a_start_by_a_host_loads_neither_commands_nor_their_libraries() -> None:
    modules = loaded(code=1)
    assert heavy(modules) == {"asyncio", "msgspec", "nacl", "nats", "nkeys", "ssl", "uvloop"}
    assert not {name for name in modules if name.startswith(("provider.commands", "provider.state_proxy"))}


def test_the_state_proxy_connector_loads_neither_commands_nor_signatures() -> None:
    modules = loaded("state-proxy", code=1)
    assert not heavy(modules) - {"asyncio", "msgspec", "nats", "ssl", "uvloop"}
    not_its_own = ("provider.commands", "provider.lattice", "provider.host_mode", "contracts.tokens", "contracts.nkeys")
    assert not {name for name in modules if name.startswith(not_its_own)}
