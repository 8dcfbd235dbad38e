"""The names of the connector: its own, its environment variables, and the signals that end it.

Pure, and apart from the meaning of the variables, which takes long to load.
"""

from __future__ import annotations

import signal

NAME = "keyvalue-nats state-proxy"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

SOCKET = "CONNECTOR_SOCKET"
URL = "NATS_URL"
BUCKET = "NATS_KV_BUCKET"
CREDS = "NATS_CREDS"
CREDS_FILE = "NATS_CREDS_FILE"
PREFIX = "STATE_PREFIX"

REQUIRED = (SOCKET, URL, BUCKET)
