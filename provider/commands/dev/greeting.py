"""The first lines of `keyvalue-nats dev`: the parts that run, the commands that call them, the place of the data."""

from __future__ import annotations

from collections.abc import Iterator

from provider.commands.connect import addresses
from provider.commands.dev_lattice.dialect import Dialect
from provider.commands.dev_lattice.start import DevLattice, LatticeSettings
from provider.keyvalue.link_forms import server_url

_EMPTY = ("", "")


def greeting(lattice: DevLattice, page_url: str) -> Iterator[tuple[str, str]]:
    """Yield lines, each with its style.

    Args:
        lattice: The running lattice.
        page_url: URL of the page in the browser; "" without a page.
    """
    settings, identity = lattice.settings, lattice.identity
    yield f"A lattice runs on this machine: {_parts(settings)}.", "bold"
    yield _EMPTY
    yield "Call it from another terminal:", ""
    is_component = identity.dialect is Dialect.WASMCLOUD1  # whose interface has no expiry
    yield f"    keyvalue-nats call Set user:1 Ann{'' if is_component else ' --expires 60'}", ""
    yield "    keyvalue-nats call Get user:1", ""
    if not settings.is_cache:
        yield f"    keyvalue-nats kv ls {settings.bucket}{_nats_option(settings)}", "dim"
    yield _EMPTY
    if page_url:
        yield f"    {'page':<9} {page_url}", "bold"
    for name, value in (
        ("data", _data(settings)),
        ("nats", addresses((lattice.nats_url,))),
        ("lattice", f"{identity.lattice}, link {identity.link_name}"),
        ("provider", identity.provider_key),
        ("component" if is_component else "actor", identity.actor_id),
    ):
        yield f"    {name:<9} {value}", "dim"
    yield _EMPTY
    shown = "Each call is a line below. " if settings.log_level == "debug" else ""
    yield f"{shown}Ctrl-C stops it.{_end(settings)}", "dim"


def _parts(settings: LatticeSettings) -> str:
    processes = "one provider process" if settings.instances == 1 else f"{settings.instances} provider processes"
    caller = "component" if settings.dialect is Dialect.WASMCLOUD1 else "actor"
    server = "a nats-server, " if settings.nats_url is None else ""
    return f"{server}{processes} and one linked {caller}"


def _data(settings: LatticeSettings) -> str:
    if settings.is_cache:
        return "in the memory of the provider processes" if settings.instances > 1 else "in the provider's memory"
    where = f"bucket {settings.bucket}"
    if settings.link_value("URL") or settings.nats_url is not None:
        return f"{where} on a server that keeps it"
    return f"{where} in {settings.data_folder or 'a temporary folder'}"


def _end(settings: LatticeSettings) -> str:
    is_kept = settings.link_value("URL") or settings.nats_url is not None or settings.data_folder is not None
    return " The data stays." if is_kept and not settings.is_cache else " The data goes with it."


def _nats_option(settings: LatticeSettings) -> str:
    """Return the --nats option for a link with its own server. For the lattice's server, `kv` needs no option."""
    servers = settings.link_value("URL")
    return f" --nats {addresses(tuple(server_url(server.strip()) for server in servers.split(',')))}" if servers else ""
