"""An executable that contains its own Python: a shell script followed by a tar.

The script unpacks the tar beside itself, once, and replaces itself by the Python in it (`exec`). The one-file mode of
PyInstaller does not fit: it unpacks at every start, and the process that the host knows is not the provider but its
parent, so the host's SIGKILL leaves an orphan, an unpacked folder, or both. Here the process that the host starts is the
provider, and the unpacked folder is kept for the next start. In return the target machine needs a shell, `tar`, `dd`,
`find`, `sort`, `cksum` and `id`, which every image with a shell has, and a glibc not older than that of the build machine.
"""

from __future__ import annotations

import subprocess
import tempfile
import zipfile
from pathlib import Path

from provider.commands.par import bootstrap, compiled, interpreter, payload
from provider.commands.par.zipapp import build_text, compiled_bootstrap

_START = "start.pyc"
_HEADER_BYTES = 4096
"""Size of the script, padded, so that `dd` can skip it with one block. The script needs about 3,200 bytes."""

_CHECKSUM = "find . -type f -exec cksum {} + | LC_ALL=C sort | cksum"
"""Of all files of the current folder and their names. Computed at every start, by the fastest program that all have."""

_HEADER = """#!/bin/sh
# keyvalue-nats, a wasmCloud capability provider, with the Python that runs it: a tar behind this script, which unpacks
# it once, beside itself or in the temporary folder, and becomes the Python in it. PATH and HOME may be unset.
PATH=${{PATH:+$PATH:}}/usr/local/bin:/usr/bin:/bin
umask 077
case $0 in
*/*) here=${{0%/*}} ;;
*) here=. ;;
esac
here=$(cd "${{here:-/}}" && pwd -P) || exit 1
self=$here/${{0##*/}}

start() {{ # the unpacked folder, what it is to become or "", arguments
    unpacked=$1
    shift
    LD_LIBRARY_PATH=$unpacked/{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
    export LD_LIBRARY_PATH
    exec "$unpacked/{python}" -IS "$unpacked/{start}" "$self" "$@"
}}

is_own() {{ # a folder, no link, that only this user can write to
    [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] && [ -z "$(find "$1" -prune \\( -perm -020 -o -perm -002 \\))" ]
}}

is_whole() {{ # the content of this file, which only this user can change
    [ -x "$1/{python}" ] &&
        [ -z "$(find "$1" \\( -type l -o ! -user "$user" -o -perm -020 -o -perm -002 \\) 2>&1)" ] &&
        [ "$(cd "$1" && {checksum})" = "{sum}" ]
}}

user=$(id -u)
own=keyvalue-nats-$user
for parent in "$here" "${{TMPDIR:-/tmp}}/$own" "/tmp/$own" "/var/tmp/$own"; do
    case $parent in
    *[:\\;]*) continue ;; # they would separate two paths in LD_LIBRARY_PATH
    esac
    folder=$parent/{folder}
    if [ "$parent" != "$here" ] && ! is_own "$parent"; then
        continue
    fi
    if is_own "$folder" && is_whole "$folder"; then
        start "$folder" "" "$@"
    fi
done
for parent in "$here" "${{TMPDIR:-/tmp}}/$own" "/tmp/$own" "/var/tmp/$own"; do
    case $parent in
    *[:\\;]*) continue ;;
    esac
    folder=$parent/{folder}
    partial=$folder.partial-$$
    if [ "$parent" != "$here" ]; then
        mkdir "$parent" 2>/dev/null
        is_own "$parent" || continue
    fi
    if [ -e "$folder" ] || [ -L "$folder" ]; then
        is_own "$folder" || continue
    fi
    if is_own "$partial"; then
        rm -rf "$partial"
    fi
    mkdir "$partial" 2>/dev/null || continue
    if {{ dd bs={header_bytes} count=1 of=/dev/null 2>/dev/null && tar -xof - -C "$partial"; }} <"$self"; then
        if mv -T "$partial" "$folder" 2>/dev/null; then
            start "$folder" "" "$@"
        fi
        start "$partial" "$folder" "$@" # another one was quicker, it is damaged, or mv knows no -T
    fi
    rm -rf "$partial"
done
echo "keyvalue-nats: cannot unpack, neither beside $self nor in ${{TMPDIR:-/tmp}}" >&2
exit 1
"""


def header(built: payload.Payload) -> bytes:
    """Return the script, padded to the offset of the tar."""
    text = _HEADER.format(
        libraries=interpreter.LIBRARIES,
        python=interpreter.EXECUTABLE,
        start=_START,
        folder=bootstrap.FOLDER_PREFIX + built.digest[:16],
        checksum=_CHECKSUM,
        sum=_sum(built.folder),
        header_bytes=_HEADER_BYTES,
    )
    assert len(text) < _HEADER_BYTES
    return text.ljust(_HEADER_BYTES - 1, "#").encode() + b"\n"


def _sum(folder: Path) -> str:
    command = ["/bin/sh", "-c", _CHECKSUM]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def write_bundled(path: Path, target: str, provider_toml: str) -> None:
    """Write the executable, for this machine's target.

    Raises:
        BuildError: This Python cannot be copied.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        folder, site = Path(temporary, "bundled"), Path(temporary, "site")
        interpreter.copy_interpreter(folder)
        payload.build_site(site, target, provider_toml)
        payload.take_native(site, folder / bootstrap.NATIVE_NAME)
        compiled.copy_shared_libraries(folder, folder / interpreter.LIBRARIES)
        for name in (bootstrap.NATIVE_NAME, interpreter.LIBRARIES):
            compiled.strip_symbols(folder / name)
        with zipfile.ZipFile(folder / bootstrap.SITE_NAME, "w") as archive:
            payload.write_modules(archive, site)
        (folder / _START).write_bytes(compiled_bootstrap(Path(temporary)))
        built = payload.measured(folder)
        (folder / bootstrap.BUILD_NAME).write_text(build_text(built), encoding="ascii")
        with path.open("wb") as file:
            file.write(header(built))
            payload.write_tar(built, file)
    path.chmod(0o755)
