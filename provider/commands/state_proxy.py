"""`keyvalue-nats state-proxy`: its help. What it does is started without any of the command line's libraries."""

from __future__ import annotations

import typer

EXAMPLES = """Environment:

CONNECTOR_SOCKET   path of the unix socket; required

NATS_URL           one or several, comma-separated, nats://[user:password@ or token@]host:port; required

NATS_KV_BUCKET     the bucket, which must exist; required

NATS_CREDS_FILE    a credentials file

STATE_PREFIX       put before every key, with a dot
"""


def state_proxy() -> None:
    """Be the state-proxy connector nats-kv-buffered-cas: an actor's files, over a unix socket, in a bucket."""
    from provider.state_proxy.run import run

    raise typer.Exit(run())
