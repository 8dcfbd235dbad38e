"""The build of an archive: one executable per target, their hashes, the signed claims, and the file."""

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
from provider.commands.par.archive_claims import decode_claims, sign_claims
from provider.commands.par.archive_file import hash_file, read_archive, write_archive
from provider.commands.par.bundled import write_bundled
from provider.commands.par.targets import check_target, native_target
from provider.commands.par.zipapp import bootstrap_source, header, write_zipapp
from provider.config import Identity, load_provider_toml, packaged_provider_toml
from provider.errors import ConfigError

EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True)
class Plan:
    """The archive to build.

    Attributes:
        path: Path of the archive; gzipped if it ends in `.gz`.
        targets: Targets, with one executable each.
        is_bundled: True for executables that contain Python, False for ones that search for it.
        python: Absolute path of Python on the machines that run the archive; None searches for it.
        revision: Revision, from 1; without one (None), hosts treat every archive as new.
        provider_toml: Path of a file to use instead of the one in the package.
    """

    path: Path
    targets: tuple[str, ...]
    is_bundled: bool = False
    python: str | None = None
    revision: int | None = None
    provider_toml: Path | None = None


def load_identity(provider_toml: Path | None) -> Identity:
    """Return the identity that goes into the claims.

    Raises:
        BuildError: provider.toml is not valid; the text names the setting.
    """
    try:
        return load_provider_toml(str(provider_toml) if provider_toml else None).identity
    except ConfigError as error:
        raise BuildError(str(error)) from None


def check_plan(plan: Plan) -> None:
    """Validate a plan before any key or file is created.

    Raises:
        BuildError: The archive cannot be built; the text says why.
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
            raise BuildError(f"--bundled includes this machine's Python, so the target can only be {native_target()}")
    header(plan.python)
    bootstrap_source()


def build_archive(
    plan: Plan, issuer: Seed, subject: Seed, progress: Callable[[str], None] = lambda _: None
) -> ArchiveClaims:
    """Build the archive and return its claims.

    Same inputs give the same executables. The time of signing is always the real time: hosts distinguish archives
    without a revision by it.

    Raises:
        BuildError: The archive cannot be built; the text says why. An existing archive is left unchanged.
    """
    check_plan(plan)
    identity = load_identity(plan.provider_toml)
    text = plan.provider_toml.read_text(encoding="utf-8") if plan.provider_toml else packaged_provider_toml()
    modified = _source_date(os.environ)
    try:
        with tempfile.TemporaryDirectory(prefix="keyvalue-nats-par-") as temporary:
            executables = {}
            for target in plan.targets:
                progress(f"building the executable for {target}")
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


def replaced_claims(path: Path) -> ArchiveClaims | None:
    """Return the claims of the archive that a build would replace, or None if there is no readable one."""
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
    """Return the time stamp of the archive's entries. Source: reproducible-builds.org, SOURCE_DATE_EPOCH."""
    given = environment.get(EPOCH_VARIABLE, "0")
    if not given.isdecimal():
        raise BuildError(f"{EPOCH_VARIABLE} is not a number of seconds")
    return int(given)
