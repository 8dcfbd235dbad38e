"""The names of the connector's environment variables. Pure, and apart from their meaning, which takes long to load."""

from __future__ import annotations

SOCKET = "CONNECTOR_SOCKET"
URL = "NATS_URL"
BUCKET = "NATS_KV_BUCKET"
CREDS = "NATS_CREDS"
CREDS_FILE = "NATS_CREDS_FILE"
PREFIX = "STATE_PREFIX"

REQUIRED = (SOCKET, URL, BUCKET)
