"""Archives built by the command, and executables extracted from them as by a host."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = str(Path(sys.executable).parent / "keyvalue-nats")
KINDS = ("zipapp", "bundled")
FOLDERS = ".keyvalue-nats-*"
"""Pattern of the folders that an executable unpacks beside itself."""

_USUAL_PLACES = ("/usr/bin", "/usr/local/bin")


@dataclass(frozen=True)
class Archive:
    """The file of an archive, its claims and its executable."""

    path: Path
    claims: dict[str, Any]
    target: str
    executable: bytes

    def extract(self, temporary_folder: Path, link_name: str = "default") -> Path:
        """Extract the executable to the path that a host uses; return the path."""
        metadata = self.claims["wascap"]
        revision = metadata.get("rev", 0)
        folder = f"{self.claims['sub']}/{revision if revision > 0 else self.claims['iat']}"
        name = "_".join("".join(c if c.isalnum() else "_" for c in t.lower()) for t in (metadata["capid"], link_name))
        path = temporary_folder / "wasmcloudcache" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.executable)
        path.chmod(0o755)
        return path


def make_archive(folder: Path, kind: str, *options: str, command: tuple[str, ...] = (COMMAND,)) -> Archive:
    """Run `keyvalue-nats par` and read the archive."""
    path = folder / f"{kind}.par.gz"
    given = ["--bundled"] if kind == "bundled" else _python()
    subprocess.run(
        [*command, "par", "--out", str(path), *given, *options],
        env=os.environ | {"WASH_KEYS": str(folder / "keys")},
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return read_archive(path)


def read_archive(path: Path) -> Archive:
    """Read an archive as a host does: check the hash of its one target, but no signature."""
    with tarfile.open(path) as tar:
        contents = {Path(member.name).stem: _content(tar, member) for member in tar}
    body = contents.pop("claims").split(b".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
    ((target, executable),) = contents.items()
    assert claims["wascap"]["target_hashes"] == {target: hashlib.sha256(executable).hexdigest().upper()}
    return Archive(path, claims, target, executable)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _python() -> list[str]:
    """Return the option that names this Python, if it is in none of the folders that an executable searches."""
    name = f"python3.{sys.version_info.minor}"
    if shutil.which(name, path=":".join(_USUAL_PLACES)):
        return []
    return ["--python", str(Path(sys.base_prefix, "bin", name))]


CONFINED = """
set -e
root=$1 writable=$2 hides_python=$3 executable=$4
mount -t tmpfs none "$root"
for path in /bin /sbin /lib /lib32 /lib64 /usr /dev /proc /opt; do
    if [ -L "$path" ]; then
        ln -s "$(readlink "$path")" "$root$path"
    elif [ -d "$path" ]; then
        mkdir "$root$path"
        mount --rbind "$path" "$root$path"
    fi
done
mount -o remount,bind,ro "$root/usr"
if [ "$hides_python" ]; then
    for path in "$root"/usr/bin/python* "$root"/usr/local/bin/python* ; do
        if [ -f "$path" ]; then mount --bind /dev/null "$path"; fi
    done
    for path in "$root"/usr/lib/python* "$root"/usr/local/lib/python* "$root/opt"; do
        if [ -d "$path" ]; then mount -t tmpfs none "$path"; fi
    done
fi
mkdir "$root/host" "$root/tmp"
mount --bind "$(dirname "$executable")" "$root/host"
if [ "$writable" = /tmp ]; then
    mount -o remount,bind,ro "$root/host"
    mount -t tmpfs none "$root/tmp"
fi
mount -o remount,ro "$root"
exec chroot "$root" "/host/$(basename "$executable")"
"""


def confined(executable: Path, root: Path, *, writable: str = "", hides_python: bool = False) -> list[str]:
    """Return a command that starts an executable in a root file system of its own, in the same process.

    The file system is read-only except the executable's folder, or except `/tmp` if that is `writable`. It has no
    Python if `hides_python`. Without the permission to create one, return the plain executable.
    """
    root.mkdir()
    unshare = shutil.which("unshare") or "unshare"
    for options in (["--mount"], ["--mount", "--map-root-user"]):
        command = [unshare, *options, "/bin/sh", "-c"]
        probe = [*command, "mount -t tmpfs none /mnt && mount --rbind /dev /mnt"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            arguments = [str(root), writable, "yes" if hides_python else "", str(executable)]
            return [*command, CONFINED, "sh", *arguments]
    return [str(executable)]
