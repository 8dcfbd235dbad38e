"""`keyvalue-nats par`: builds a provider archive. `keyvalue-nats par inspect`: shows and checks one."""

from __future__ import annotations

import getpass
import os
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from contracts.archive import ArchiveClaims, cached_folder
from contracts.nkeys import KeyKind, Seed
from provider.commands.command_line import Command, CommandGroup
from provider.commands.errors import MalformedArchiveError
from provider.commands.output import stderr_console, stdout_console, write_line
from provider.commands.par.archive_claims import decode_claims, problems
from provider.commands.par.archive_file import read_archive
from provider.commands.par.build import Plan, build_archive, check_plan, load_identity, replaced_claims
from provider.commands.par.key_files import key_path, keys_folder, read_or_make_seed, read_seed
from provider.commands.par.targets import native_target
from provider.config import Identity

EXAMPLES = """\b
Examples:
  keyvalue-nats par --out keyvalue-nats.par.gz
  keyvalue-nats par --out keyvalue-nats.par.gz \\
      --target x86_64-linux --target aarch64-linux
  keyvalue-nats par --out keyvalue-nats.par.gz --bundled --release
  keyvalue-nats par inspect keyvalue-nats.par.gz
"""

_PROVIDER = "keyvalue-nats"
"""The name that `wash` would derive for the provider's key."""

_ISSUER_HELP = (
    "Path of the account's seed. Default: USER_account.nk in $WASH_KEYS or ~/.wash/keys; USER is your login name."
)
_SUBJECT_HELP = f"Path of the provider's seed. Default: {_PROVIDER}_service.nk in the same folder."

par = typer.Typer(
    cls=CommandGroup, invoke_without_command=True, subcommand_metavar="[inspect FILE]", add_completion=False
)


@par.callback(epilog=EXAMPLES)
def create(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option(metavar="FILE", dir_okay=False, help="Path of the archive; gzipped if it ends in .gz.")
    ] = Path(f"{_PROVIDER}.par.gz"),
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="TARGET", help="Target, e.g. x86_64-linux; may be repeated. Default: this machine."),
    ] = None,
    bundled: Annotated[bool, typer.Option("--bundled", help="Include Python, for machines without it.")] = False,
    python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Path of Python on the machines that run it. Default: search for it."),
    ] = None,
    release: Annotated[
        bool, typer.Option("--release", help="Use the revision of provider.toml. Hosts cache archives by revision.")
    ] = False,
    revision: Annotated[int | None, typer.Option(metavar="NUMBER", help="Use this revision.")] = None,
    provider_toml: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Path of a provider.toml to use instead of the package's own.",
        ),
    ] = None,
    issuer: Annotated[Path | None, typer.Option(metavar="FILE", help=_ISSUER_HELP)] = None,
    subject: Annotated[Path | None, typer.Option(metavar="FILE", help=_SUBJECT_HELP)] = None,
) -> None:
    """Build a provider archive: signed claims, and one executable per target that hosts start directly."""
    if context.invoked_subcommand is not None:
        return
    console = stderr_console()
    if bundled and python:
        raise typer.BadParameter("--bundled includes its own Python", param_hint="--python")
    if release and revision is not None:
        raise typer.BadParameter("--release uses the one of provider.toml", param_hint="--revision")
    identity = load_identity(provider_toml)
    plan = Plan(
        path=out,
        targets=tuple(dict.fromkeys(target or [native_target()])),
        is_bundled=bundled,
        python=python,
        revision=identity.revision if release else revision,
        provider_toml=provider_toml,
    )
    check_plan(plan)
    replaced = replaced_claims(out)
    issuer_seed = _seed(issuer, KeyKind.ACCOUNT, console)
    subject_seed = _seed(subject, KeyKind.SERVICE, console)
    with console.status("building the archive") as status:  # at a terminal; a pipe gets the lines alone

        def progress(text: str) -> None:
            write_line(console, text, "dim")
            status.update(text)

        claims = build_archive(plan, issuer_seed, subject_seed, progress)
    _report(stdout_console(), plan.path, claims)
    _warn(console, claims, replaced, identity)


@par.command("inspect", cls=Command)
def inspect(
    file: Annotated[Path, typer.Argument(help="Path of the archive.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the claims of an archive and check them; exit code 1 if anything is wrong."""
    contents = read_archive(file)
    try:
        token = decode_claims(contents.token)
    except MalformedArchiveError as error:
        raise MalformedArchiveError(f"{file}: {error}") from None
    wrong = problems(contents, token, time.time())
    if json:
        answer = {
            "claims": token.claims,
            "cached_folder": cached_folder(token.claims),
            "entries": {found.target: {"bytes": found.size, "sha256": found.sha256} for found in contents.executables},
            "problems": wrong,
        }
        typer.echo(msgspec.json.encode(answer).decode())
    else:
        console = stdout_console()
        _report(console, file, token.claims)
        for executable in contents.executables:
            _row(console, executable.target, f"{executable.size / 1e6:.1f} MB  {executable.sha256}")
        for problem in wrong:
            write_line(console, f"wrong: {problem}", "red")
        if not wrong:
            write_line(console, "signature and hashes are valid", "green")
    if wrong:
        raise typer.Exit(1)


def _seed(given: Path | None, kind: KeyKind, console: Console) -> Seed:
    if given is not None:
        return read_seed(given, kind)
    path = key_path(keys_folder(os.environ, Path.home()), kind, getpass.getuser(), _PROVIDER)
    seed, is_new = read_or_make_seed(path, kind)
    if is_new:
        write_line(
            console,
            f"generated the key of the {kind.name.lower()} in {path}; keep it secret, and use it for every later archive",
        )
    return seed


def _report(console: Console, path: Path, claims: ArchiveClaims) -> None:
    metadata = claims.wascap
    signed = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(max(claims.iat, 0), 2**40)))
    write_line(console, str(path), "bold")
    _row(console, "provider", claims.sub)
    _row(console, "issuer", claims.iss)
    _row(console, "contract", metadata.contract_id or "none: for hosts of wasmCloud 1.x only")
    _row(console, "name", metadata.name or "")
    _row(console, "vendor", metadata.vendor)
    _row(console, "version", metadata.version or "")
    _row(console, "revision", "none" if metadata.revision is None else str(metadata.revision))
    _row(console, "signed", signed)
    _row(console, "targets", ", ".join(sorted(metadata.target_hashes)))
    _row(console, "cached in", f"{cached_folder(claims)} of a host's temporary folder")


def _row(console: Console, name: str, text: str) -> None:
    printable = "".join(char if char.isprintable() else "�" for char in text)
    write_line(console, f"    {name:<14} {printable}", "")


def _warn(console: Console, claims: ArchiveClaims, replaced: ArchiveClaims | None, identity: Identity) -> None:
    """Explain the effect of the revision: hosts never extract a revision again that they already have."""
    revision = claims.wascap.revision
    if revision is None:
        write_line(
            console,
            "no revision: hosts treat every archive without one as new. Use --release for one that they may cache",
            "dim",
        )
        return
    text = (
        f"hosts that have run revision {revision} of this provider keep using the executable that they extracted then"
    )
    if (
        replaced is not None
        and (replaced.sub, replaced.wascap.revision) == (claims.sub, revision)
        and replaced.wascap.target_hashes != claims.wascap.target_hashes
    ):
        text += "; the replaced archive had the same revision and other content, so raise the revision"
        write_line(console, f"warning: {text} (provider.toml has {identity.revision})", "yellow")
    else:
        write_line(console, text, "dim")
