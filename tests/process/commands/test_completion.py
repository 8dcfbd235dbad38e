"""The completion of a shell, as its script asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).parent / "keyvalue-nats")


def completed(line: str) -> list[str]:
    """Return the words that bash is offered in place of the last word of a line."""
    words = line.split(" ")
    variables = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_KEYVALUE_NATS_COMPLETE": "complete_bash"}
    done = subprocess.run([COMMAND], env=os.environ | variables, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("keyvalue-nats ca", ["call"]),
        ("keyvalue-nats kv up", ["update"]),
        ("keyvalue-nats kv ls --na", ["--names", "--nats"]),
        ("keyvalue-nats call seta", ["setadd"]),
        ("keyvalue-nats settings repl", ["replICAS", "replAY_REQ_SUBJECT"]),
        ("keyvalue-nats dev --link-value max_k", ["max_kEYS="]),
    ],
)
def test_a_word_is_completed(line: str, words: list[str]) -> None:
    assert set(words) <= set(completed(line))


def test_the_script_of_bash_calls_the_command(tmp_path: Path) -> None:
    script = subprocess.run([COMMAND, "--show-completion", "bash"], capture_output=True, text=True, check=True).stdout
    (tmp_path / "completion.sh").write_text(script)
    shell = f"""
        PATH={Path(COMMAND).parent}:$PATH
        . {tmp_path / "completion.sh"}
        COMP_WORDS=(keyvalue-nats kv upd) COMP_CWORD=2
        _keyvalue_nats_completion keyvalue-nats
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout == "update\n"
