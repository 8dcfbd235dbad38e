"""The help of `keyvalue-nats state-proxy`. The real start bypasses this module, to save the memory of typer and rich."""

from __future__ import annotations

import typer

EXAMPLES = """\b
Environment:
  CONNECTOR_SOCKET  Path of the Unix socket; required.
  NATS_URL          Servers, comma-separated; required. Each is
                    nats://[user:password@ or token@]host:port.
  NATS_KV_BUCKET    Name of the bucket, which must exist; required.
  NATS_CREDS        Content of a credentials file.
  NATS_CREDS_FILE   Path of a credentials file.
  STATE_PREFIX      Prefix of every key, without the dot that follows it.
"""


def state_proxy() -> None:
    """Run the state-proxy connector nats-kv-buffered-cas: keep an actor's files, sent over a Unix socket, in a bucket."""
    from provider.state_proxy.launch import start

    raise typer.Exit(start())
