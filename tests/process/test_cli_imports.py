"""What a host's start must not load."""

from __future__ import annotations

import subprocess
import sys

CHECK = """
import sys
sys.argv = ["keyvalue-nats"]
import provider.__main__, provider.host_mode
loaded = [name for name in sys.modules if name.split(".")[:2] in (["provider", "commands"], ["provider", "state_proxy"])]
print(*loaded, *(name for name in ("typer", "rich", "jwt", "cryptography", "matplotlib") if name in sys.modules))
"""


def test_host_mode_loads_neither_the_commands_nor_the_development_lattice_nor_their_libraries() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == []
