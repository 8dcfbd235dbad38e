"""The keys in host data: their kinds, and whether they fit together. No finding shows a seed. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from contracts.host import HostData, HostFamily
from contracts.nkeys import KeyKind, decode_public_key, is_usable, parse_seed
from provider.commands.check.findings import Finding, failed, note, ok, warning

_SEED = "key invocation_seed"
_SEED_ADVICE = "Give the host the cluster's seed, which begins with SC."


def key_findings(host_data: HostData) -> Iterator[Finding]:
    """Yield findings on the cluster's keys."""
    if host_data.family is HostFamily.WASMCLOUD1:
        yield note("keys", "a host of 1.x signs nothing and gives no cluster's key")
        return
    yield from _issuers(host_data.cluster_issuers)
    try:
        seed = parse_seed(host_data.invocation_seed.reveal())
    except ValueError:
        if host_data.invocation_seed:
            yield failed(_SEED, "is not the seed of a key", _SEED_ADVICE)
        else:
            text = "is not given, so caches sign nothing, and actors cannot be told of changes"
            yield warning(_SEED, text, _SEED_ADVICE)
        return
    if seed.kind is not KeyKind.CLUSTER:
        yield warning(_SEED, f"is the seed of another kind of key: {seed.kind.name.lower()}", _SEED_ADVICE)
    elif seed.public_key not in host_data.cluster_issuers:
        text = "belongs to a key that is not among cluster_issuers, so other hosts may refuse what it signs"
        yield warning(_SEED, text, f"Add {seed.public_key} to the cluster_issuers of all hosts.")
    else:
        yield ok(_SEED, f"belongs to {seed.public_key}, which is among cluster_issuers")


def _issuers(issuers: list[str]) -> Iterator[Finding]:
    for issuer in issuers:
        about = "key cluster_issuers"
        if issuer.strip().startswith("S"):
            # Not shown: a seed may have been put where its public key belongs.
            yield failed(about, "has something that may be a seed", "Put the public key there, which begins with C.")
        elif not is_usable(issuer):
            text = f"{issuer!r} is not a public key, or not one that can sign, so no call is believed by it"
            yield failed(about, text, "Put the cluster's public key there, which begins with C.")
        elif decode_public_key(issuer)[0] != KeyKind.CLUSTER:
            yield warning(about, f"{issuer} is not a cluster's key", "Put the cluster's public key there: C….")
        else:
            yield ok(about, f"{issuer} is a cluster's key")
