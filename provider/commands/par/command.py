"""`keyvalue-nats par`: make a provider archive, and look into one."""

from __future__ import annotations

import getpass
import os
import time
from pathlib import Path

import msgspec
import typer
from rich.console import Console

from contracts.archive import ArchiveClaims, cached_folder
from contracts.nkeys import KeyKind, Seed
from provider.commands.errors import MalformedArchiveError
from provider.commands.output import stderr_console, stdout_console, write_line
from provider.commands.par.archive_file import read_archive
from provider.commands.par.build import Plan, build_archive, check_plan, load_identity, replaced_revision
from provider.commands.par.claims import decode_claims, problems
from provider.commands.par.key_files import kept_path, keys_folder, read_or_make_seed, read_seed
from provider.commands.par.targets import native_target
from provider.config import Identity

EXAMPLES = """Examples:

keyvalue-nats par --out keyvalue-nats.par.gz

keyvalue-nats par --out keyvalue-nats.par.gz --target x86_64-linux --target aarch64-linux

keyvalue-nats par --out keyvalue-nats.par.gz --bundled --release

keyvalue-nats par inspect keyvalue-nats.par.gz
"""

_PROVIDER = "keyvalue-nats"

par = typer.Typer(invoke_without_command=True, subcommand_metavar="[inspect FILE]")


@par.callback(epilog=EXAMPLES)
def create(
    context: typer.Context,
    out: Path = typer.Option(f"{_PROVIDER}.par.gz", dir_okay=False, help="The archive; gzipped if it ends in .gz."),
    target: list[str] = typer.Option(None, help="As x86_64-linux; may be repeated. Default: this machine's."),
    bundled: bool = typer.Option(False, "--bundled", help="Take Python along, for machines that have none."),
    python: str | None = typer.Option(
        None, metavar="PATH", help="Python on the machines that run it; default: look for it."
    ),
    release: bool = typer.Option(False, "--release", help="Put provider.toml's revision in. Hosts cache by it."),
    revision: int | None = typer.Option(None, help="Put this revision in."),
    provider_toml: Path | None = typer.Option(None, exists=True, dir_okay=False, help="In place of the package's own."),
    issuer: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="Seed of the account; default: USER_account.nk in $WASH_KEYS or ~/.wash/keys, USER being your login name.",
    ),
    subject: Path | None = typer.Option(
        None, metavar="FILE", help=f"Seed of the provider; default: {_PROVIDER}_service.nk there."
    ),
) -> None:
    """Make a provider archive: signed claims, and one executable per target that hosts start as it is."""
    if context.invoked_subcommand is not None:
        return
    console = stderr_console()
    if bundled and python:
        raise typer.BadParameter("--bundled brings its own Python", param_hint="--python")
    if release and revision is not None:
        raise typer.BadParameter("--release takes provider.toml's", param_hint="--revision")
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
    replaced = replaced_revision(out)
    issuer_seed = _seed(issuer, KeyKind.ACCOUNT, console)
    subject_seed = _seed(subject, KeyKind.SERVICE, console)
    claims = build_archive(plan, issuer_seed, subject_seed, lambda text: write_line(console, text, "dim"))
    _report(stdout_console(), plan.path, claims)
    _warn(console, claims, replaced, identity)


@par.command("inspect")
def inspect(
    file: Path = typer.Argument(help="The archive."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object, for machines."),
) -> None:
    """Show what an archive says of itself and check it; exit code 1 if anything is wrong."""
    contents = read_archive(file)
    try:
        token = decode_claims(contents.token)
    except MalformedArchiveError as error:
        raise MalformedArchiveError(f"{file}: {error}") from None
    found = problems(contents, token, time.time())
    if json:
        answer = {
            "claims": token.claims,
            "cached_folder": cached_folder(token.claims),
            "entries": {entry.target: {"bytes": entry.size, "sha256": entry.sha256} for entry in contents.entries},
            "problems": found,
        }
        typer.echo(msgspec.json.encode(answer).decode())
    else:
        console = stdout_console()
        _report(console, file, token.claims)
        for entry in contents.entries:
            _row(console, entry.target, f"{entry.size / 1e6:.1f} MB  {entry.sha256}")
        for problem in found:
            write_line(console, f"wrong: {problem}", "red")
        if not found:
            write_line(console, "signature and hashes are right", "green")
    if found:
        raise typer.Exit(1)


def _seed(given: Path | None, kind: KeyKind, console: Console) -> Seed:
    if given is not None:
        return read_seed(given, kind)
    path = kept_path(keys_folder(os.environ, Path.home()), kind, getpass.getuser(), _PROVIDER)
    seed, is_made = read_or_make_seed(path, kind)
    if is_made:
        write_line(
            console, f"made a key of the {kind.name.lower()} and kept it in {path}; keep it secret, use it again"
        )
    return seed


def _report(console: Console, path: Path, claims: ArchiveClaims) -> None:
    metadata = claims.wascap
    signed = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(max(claims.iat, 0), 2**40)))
    write_line(console, str(path), "bold")
    _row(console, "provider", claims.sub)
    _row(console, "issuer", claims.iss)
    _row(console, "contract", metadata.contract_id)
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
    """Say what hosts will make of the revision: one that they know already is never extracted again."""
    revision = claims.wascap.revision
    if revision is None:
        write_line(
            console, "no revision: hosts take every such archive for a new one. For one to keep, use --release", "dim"
        )
        return
    text = f"hosts that have run revision {revision} of this provider keep running what they extracted then"
    if (
        replaced is not None
        and (replaced.sub, replaced.wascap.revision) == (claims.sub, revision)
        and replaced.wascap.target_hashes != claims.wascap.target_hashes
    ):
        text += "; the archive that was replaced had the same revision and other content: raise it"
        write_line(console, f"warning: {text}, provider.toml has {identity.revision}", "yellow")
    else:
        write_line(console, text, "dim")
