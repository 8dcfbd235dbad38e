"""Make an archive: one executable per target, their hashes, the claims that vouch for them, all of it in one file."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts.archive import REVISION_MAX, ArchiveClaims, ProviderMetadata
from contracts.nkeys import Seed
from contracts.tokens import WASCAP_REVISION
from provider.commands.errors import ArchiveError, BuildError
from provider.commands.par.archive_file import hash_file, read_archive, write_archive
from provider.commands.par.bundled import write_bundled
from provider.commands.par.claims import decode_claims, sign_claims
from provider.commands.par.targets import check_target, native_target
from provider.commands.par.zipapp import bootstrap_source, header, write_zipapp
from provider.config import Identity, load_provider_toml, packaged_provider_toml
from provider.errors import ConfigError

EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True)
class Plan:
    """What is to be made.

    Attributes:
        path: The archive; gzipped when its name ends in `.gz`.
        targets: One executable for each.
        is_bundled: With a Python inside, instead of one that looks for it.
        python: Absolute path of the interpreter on the machines that will run it; `None`: look for one.
        revision: From 1; `None`: none, so that hosts take every archive for a new one.
        provider_toml: A file in place of the one in the package.
    """

    path: Path
    targets: tuple[str, ...]
    is_bundled: bool = False
    python: str | None = None
    revision: int | None = None
    provider_toml: Path | None = None


def load_identity(provider_toml: Path | None) -> Identity:
    """Read who the archive says it is.

    Raises:
        BuildError: provider.toml is wrong; names the path in it.
    """
    try:
        return load_provider_toml(str(provider_toml) if provider_toml else None).identity
    except ConfigError as error:
        raise BuildError(str(error)) from None


def check_plan(plan: Plan) -> None:
    """Refuse what cannot be made, before keys or files are.

    Raises:
        BuildError: Says what is wrong with it.
    """
    folder = plan.path.parent
    if not folder.is_dir():
        raise BuildError(f"cannot make {plan.path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise BuildError(f"cannot make {plan.path}: folder {folder} cannot be written")
    if plan.revision is not None and not 1 <= plan.revision <= REVISION_MAX:
        raise BuildError(f"revision {plan.revision} is outside of 1 to {REVISION_MAX}")
    for target in plan.targets:
        check_target(target)
        if plan.is_bundled and target != native_target():
            raise BuildError(f"--bundled takes this machine's Python along, so it is for {native_target()} alone")
    header(plan.python)
    bootstrap_source()


def build_archive(
    plan: Plan, issuer: Seed, subject: Seed, progress: Callable[[str], None] = lambda _: None
) -> ArchiveClaims:
    """Make the archive and return its claims.

    The executables depend on nothing but what goes into them. The time of signing is always the real one: hosts tell
    archives without a revision apart by it.

    Raises:
        BuildError: Says what is wrong, before anything is written.
    """
    check_plan(plan)
    identity = load_identity(plan.provider_toml)
    text = plan.provider_toml.read_text(encoding="utf-8") if plan.provider_toml else packaged_provider_toml()
    modified = _source_date(os.environ)
    try:
        with tempfile.TemporaryDirectory(prefix="keyvalue-nats-par-") as temporary:
            executables = {}
            for target in plan.targets:
                progress(f"making the executable for {target}")
                executables[target] = Path(temporary, target)
                _write_executable(executables[target], target, plan, text)
            claims = ArchiveClaims(
                jti=uuid.uuid4().hex,
                iat=int(time.time()),
                iss=issuer.public_key,
                sub=subject.public_key,
                wascap=ProviderMetadata(
                    name=identity.name,
                    contract_id=identity.contract_id,
                    vendor=identity.vendor,
                    revision=plan.revision,
                    version=identity.version,
                    target_hashes={target: hash_file(path) for target, path in sorted(executables.items())},
                ),
                wascap_revision=WASCAP_REVISION,
            )
            progress(f"writing {plan.path}")
            write_archive(plan.path, sign_claims(claims, issuer), executables, modified)
    except OSError as error:
        raise BuildError(f"cannot make {plan.path}: {(error.strerror or str(error)).lower()}") from None
    return claims


def replaced_revision(path: Path) -> ArchiveClaims | None:
    """Return the claims of an archive that is there already; `None` when there is none that could be read."""
    try:
        return decode_claims(read_archive(path).token).claims if path.is_file() else None
    except ArchiveError:
        return None


def _write_executable(path: Path, target: str, plan: Plan, provider_toml: str) -> None:
    if plan.is_bundled:
        write_bundled(path, target, provider_toml)
    else:
        write_zipapp(path, target, plan.python, provider_toml)


def _source_date(environment: Mapping[str, str]) -> int:
    """Return the time that files in the archive bear. Source: reproducible-builds.org, SOURCE_DATE_EPOCH."""
    given = environment.get(EPOCH_VARIABLE, "0")
    if not given.isdecimal():
        raise BuildError(f"{EPOCH_VARIABLE} is no number of seconds")
    return int(given)
