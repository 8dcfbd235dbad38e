"""Modules that the start of a host and of the state-proxy connector must not load: they cost time and memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORBIDDEN_BY_MODE = {
    "host": {
        "arguments": [],
        "folders": ["provider.commands", "provider.state_proxy"],
        "modules": ["typer", "rich", "jwt", "cryptography", "matplotlib"],
    },
    "state-proxy": {
        "arguments": ["state-proxy"],
        "folders": ["provider.commands", "provider.lattice", "provider.host_mode", "contracts.tokens"],
        "modules": ["typer", "rich", "jwt", "cryptography", "matplotlib", "contracts.nkeys", "nkeys", "nacl"],
    },
}
"""Both modes are started with nothing to do, and end as soon as they find that out."""

CHECK = """
import sys
sys.argv = ["keyvalue-nats", *{arguments}]
import provider.__main__
assert provider.__main__.main() == 1
print(*(name for name in sys.modules if name in {modules} or (name + ".").startswith(tuple(f"{{f}}." for f in {folders}))))
"""


@pytest.mark.parametrize("mode", FORBIDDEN_BY_MODE)
def test_a_start_loads_neither_commands_nor_their_libraries(mode: str) -> None:
    code = CHECK.format(**FORBIDDEN_BY_MODE[mode])
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        env={},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.split() == []
    assert done.stderr.startswith("keyvalue-nats")
