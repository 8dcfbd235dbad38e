"""A host of wasmCloud 1.x: starts a provider, puts and deletes links, updates configs, checks health, shuts down.

Source: wasmCloud v1.0.4 to v1.9.2, crates/host and crates/core.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nats.errors
from nacl.public import Box, PrivateKey, PublicKey
from nkeys import crc16_checksum

from tests.blackbox.connected_host import ConnectedHost
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.provider_process import ProviderProcess
from tests.blackbox.waiting import eventually
from tests.blackbox.wasmcloud1.component import Component

_INTERPRETER_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONHOME", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
"""Variables that a real host does not pass on. Some interpreters need them, and so does coverage of child processes."""

_PROJECT_FOLDER = Path(__file__).parent.parent.parent.parent


def _nkey(prefix: bytes, raw: bytes) -> str:
    body = prefix + raw
    return base64.b32encode(body + crc16_checksum(body)).decode().rstrip("=")


class Wasmcloud1Host(ConnectedHost):
    """A host in a lattice of its own with at most one provider process, as an async context manager.

    Args:
        server_url: URL of the lattice's nats-server.
        folder: Folder for the output of the provider.
        provider_id: Id of the provider.
        is_1_0: Whether the host is of 1.0: without curve keys and secrets.
        lattice: Name of the lattice; None: a new one.
        command: Command of a provider in place of this checkout's. It runs in the root folder, without variables.
        client_options: Options of the host's own connection, as nats-py has them.
    """

    def __init__(
        self,
        server_url: str,
        folder: Path,
        *,
        provider_id: str = "my.kv",
        is_1_0: bool = False,
        lattice: str | None = None,
        command: Sequence[str] | None = None,
        client_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(server_url, folder, client_options)
        self._command = command
        self.lattice = lattice or f"lattice-{uuid.uuid4().hex[:12]}"
        self.provider_id = provider_id
        self.host_id = KeyPair.generate("N").public
        self._is_1_0 = is_1_0
        self._own_key, self._provider_key = PrivateKey.generate(), PrivateKey.generate()

    @property
    def subject(self) -> str:
        return f"wasmbus.rpc.{self.lattice}.{self.provider_id}"

    @property
    def link_subject(self) -> str:
        """The subject of put links: below the provider's curve key from 1.1."""
        key = self.provider_id if self._is_1_0 else _nkey(b"\xb8", bytes(self._provider_key.public_key))
        return f"wasmbus.rpc.{self.lattice}.{key}.linkdefs.put"

    # --- the process

    def host_data(
        self, links: list[dict[str, Any]], config: dict[str, str] | None = None, **changed: Any
    ) -> dict[str, Any]:
        data = {
            "host_id": self.host_id,
            "lattice_rpc_prefix": self.lattice,
            "link_name": "default",
            "lattice_rpc_user_jwt": "",
            "lattice_rpc_user_seed": "",
            "lattice_rpc_url": self._server_url,
            "provider_key": self.provider_id,
            "env_values": {},
            "instance_id": str(uuid.uuid4()),
            "link_definitions": links,
            "cluster_issuers": [],
            "config": config or {},
            "default_rpc_timeout_ms": 2000,
            "structured_logging": False,
            "log_level": "info",
            "otel_config": {"enable_observability": False, "protocol": "Http", "additional_ca_paths": []},
        }
        if not self._is_1_0:
            data |= {
                "secrets": {},
                "host_xkey_public_key": _nkey(b"\xb8", bytes(self._own_key.public_key)),
                "provider_xkey_private_key": _nkey(b"\x95\xc0", bytes(self._provider_key)),
            }
        return data | changed

    def line(self, links: list[dict[str, Any]], config: dict[str, str] | None = None, **changed: Any) -> bytes:
        """Return the line that the provider is given."""
        return base64.b64encode(json.dumps(self.host_data(links, config, **changed)).encode()) + b"\r\n"

    async def start_provider(
        self, links: list[dict[str, Any]], config: dict[str, str] | None = None, **changed: Any
    ) -> ProviderProcess:
        """Start a provider with links, and return once it answers health checks."""
        line = self.line(links, config, **changed)
        self._provider = ProviderProcess(
            self._command or (sys.executable, "-m", "provider"),
            self._folder / f"provider-{uuid.uuid4().hex[:8]}",
            {} if self._command else {name: os.environ[name] for name in _INTERPRETER_VARIABLES if name in os.environ},
            line,
            keeps_stdin_open=False,
            working_folder=Path("/") if self._command else _PROJECT_FOLDER,
        )
        await self.ready()
        return self._provider

    async def ready(self) -> None:
        """Wait until the provider is ready for calls."""
        await eventually(lambda: self.provider.exit_code is not None or "ready" in self.provider.stderr, "the provider")
        assert self.provider.exit_code is None, self.provider.stderr

    async def component(self, component_id: str = "comp", **options: Any) -> Component:
        """Return a component of this host, which calls the provider."""
        component = Component(self.client, self.lattice, self.provider_id, component_id, **options)
        await component.listen()
        return component

    # --- links

    def link(
        self, component_id: str = "comp", config: dict[str, str] | None = None, name: str = "default", **changed: Any
    ) -> dict[str, Any]:
        return {
            "source_id": component_id,
            "target": self.provider_id,
            "name": name,
            "wit_namespace": "wasi",
            "wit_package": "keyvalue",
            "interfaces": ["store", "atomics", "batch"],
            "source_config": {},
            "target_config": config or {},
            "source_secrets": None,
            "target_secrets": None,
        } | changed

    def seal(self, secrets: dict[str, str | bytes]) -> list[int]:
        """Seal secrets for the provider."""
        plain = {
            name: {"kind": "String", "value": value}
            if isinstance(value, str)
            else {"kind": "Bytes", "value": list(value)}
            for name, value in secrets.items()
        }
        nonce = os.urandom(24)
        box = Box(self._own_key, PublicKey(bytes(self._provider_key.public_key)))
        return list(b"xkv1" + nonce + box.encrypt(json.dumps(plain).encode(), nonce).ciphertext)

    async def put_link(self, link: dict[str, Any]) -> None:
        """Send a link as a host of 1.1 to 1.8 does: also once more without secrets to the provider's id."""
        await self.client.publish(self.link_subject, json.dumps(link).encode())
        if not self._is_1_0:
            again = {**link, "source_secrets": None, "target_secrets": None}
            await self.client.publish(f"{self.subject}.linkdefs.put", json.dumps(again).encode())
        await self.client.flush()

    async def delete_link(self, link: dict[str, Any]) -> None:
        bare = {**link, "source_config": {}, "target_config": {}, "source_secrets": None, "target_secrets": None}
        if self._is_1_0:  # up to 1.2.1 it is the command as the operator has sent it
            bare = {name: link[name] for name in ("source_id", "name", "wit_namespace", "wit_package")}
        await self.client.publish(f"{self.subject}.linkdefs.del", json.dumps(bare).encode())
        await self.client.flush()

    async def update_config(self, config: dict[str, str]) -> None:
        await self.client.publish(f"{self.subject}.config.update", json.dumps(config).encode())
        await self.client.flush()

    # --- health and shutdown

    async def health(self) -> dict[str, Any]:
        reply = await self.client.request(f"{self.subject}.health", b"", timeout=10)
        answer: dict[str, Any] = json.loads(reply.data)
        assert type(answer["healthy"]) is bool
        return answer

    async def shut_down(self, timeout_seconds: float = 0.3, host_id: str | None = None) -> float | None:
        """Ask the provider to stop; return the seconds to its acknowledgement, or None without one."""
        request = json.dumps({"host_id": host_id or self.host_id}).encode()
        began = time.monotonic()
        with contextlib.suppress(nats.errors.TimeoutError):
            await self.client.request(f"{self.subject}.default.shutdown", request, timeout=timeout_seconds)
            return time.monotonic() - began
        return None
