"""The help of `keyvalue-nats state-proxy`. The real start bypasses this module, to save the memory of typer and rich."""

from __future__ import annotations

import typer

EXAMPLES = """Environment:

CONNECTOR_SOCKET   path of the Unix socket; required

NATS_URL           servers, comma-separated, each nats://[user:password@ or token@]host:port; required

NATS_KV_BUCKET     name of the bucket, which must exist; required

NATS_CREDS         content of a credentials file

NATS_CREDS_FILE    path of a credentials file

STATE_PREFIX       prefix of every key, without the dot that follows it
"""


def state_proxy() -> None:
    """Run the state-proxy connector nats-kv-buffered-cas: keep an actor's files, sent over a Unix socket, in a bucket."""
    from provider.state_proxy.launch import start

    raise typer.Exit(start())
