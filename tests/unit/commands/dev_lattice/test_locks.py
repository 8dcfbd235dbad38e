import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from provider.commands.dev_lattice.locks import LockedError, held


def test_a_lock_has_one_holder_and_is_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(2):
        with held(path):
            with pytest.raises(LockedError) as caught, held(path):
                pass
            assert caught.value.pid == os.getpid()
        assert not path.exists()


def test_a_child_that_inherits_a_lock_holds_it_when_its_parent_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "import pathlib, subprocess, sys\n"
        "from provider.commands.dev_lattice.locks import held\n"
        "with held(pathlib.Path(sys.argv[1])) as descriptor:\n"
        "    child = subprocess.Popen(['sleep', '60'], pass_fds=(descriptor,))\n"
        "    print(child.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        with pytest.raises(LockedError) as caught, held(path):
            pass
        assert caught.value.pid == parent.pid
        os.kill(child, signal.SIGKILL)
        parent.stdout.read()  # ends when the child has
    with held(path):
        pass
