"""A host of wasmCloud 1.x that is named in the environment, driven by its control interface."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

import nats
import nats.errors
from nats.aio.client import Client

from contracts import wrpc
from contracts.secret import Secret
from provider.commands.dev_lattice.component import Component
from provider.commands.dev_lattice.dialect import Dialect
from provider.commands.dev_lattice.identity import DevIdentity

HOST_VARIABLE = "WASMCLOUD_HOST_1X"
TOOLS_VARIABLE = "WASM_TOOLS"
"""Path of `wasm-tools`, which makes the guest from its text."""

LATTICE = "smoke"
PROVIDER_ID, COMPONENT_ID = "kv-prov", "kv-comp"
_START_SECONDS = 60.0
"""A host that was built without optimisation compiles a component for seconds."""

_CONTROL = f"wasmbus.ctl.v1.{LATTICE}"


def host_binary() -> str | None:
    return os.environ.get(HOST_VARIABLE)


def build_guest(folder: Path) -> Path:
    """Make the guest, which hands each of the nine functions on to the host."""
    tools = os.environ.get(TOOLS_VARIABLE) or shutil.which("wasm-tools")
    assert tools is not None, f"wasm-tools is not on PATH; {TOOLS_VARIABLE} may name it"
    source = Path(__file__).parent / "guest"
    core, guest = folder / "core.wasm", folder / "guest.wasm"
    wit, text = str(source / "guest.wit"), str(source / "guest.wat")
    subprocess.run([tools, "component", "embed", "--world", "smoke:kv/guest", wit, text, "-o", str(core)], check=True)
    subprocess.run([tools, "component", "new", str(core), "-o", str(guest)], check=True)
    return guest


class GuestComponent(Component):
    """Calls a function of the guest, which calls the same one of its `wasi:keyvalue`."""

    def subject(self, type_: type[wrpc.WrpcCall]) -> str:
        return f"{LATTICE}.{COMPONENT_ID}.{wrpc.PROTOCOL}.smoke:kv/run@0.1.0.{type_.function}"


class RealHost:
    """A host process, as an async context manager.

    Args:
        nats_url: URL of a server with JetStream.
        folder: Folder for the host's cache and log.
    """

    def __init__(self, nats_url: str, folder: Path) -> None:
        self._nats_url = nats_url
        self._folder = folder
        self.log_path = folder / "host.log"
        self.client: Client = Client()
        self.host_id = ""

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self.client = await nats.connect(self._nats_url)
        port = self._nats_url.rpartition(":")[2]
        binary = host_binary()
        assert binary is not None
        with self.log_path.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                binary,
                *("--nats-host", "127.0.0.1", "--nats-port", port, "--lattice", LATTICE, "--allow-file-load"),
                *("--log-level", "info", "--max-linear-memory-bytes", "268435456"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"TMPDIR": str(self._folder), "HOME": str(self._folder), "PATH": os.environ["PATH"]},
                start_new_session=True,
            )
        async with asyncio.timeout(_START_SECONDS):
            while not self.host_id:
                try:
                    answer = await self.client.request(f"{_CONTROL}.host.ping", b"", timeout=1)
                    self.host_id = json.loads(answer.data)["response"]["id"]
                except nats.errors.Error:
                    assert self._process.returncode is None, self.log
                    await asyncio.sleep(0.1)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.client.close()
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), 10)
            except TimeoutError:
                os.killpg(self._process.pid, signal.SIGKILL)
                await self._process.wait()

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def provider_pids(self) -> list[int]:
        """Return the processes whose program the host has extracted from an archive."""
        return [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and f"{self._folder}/wasmcloudcache/" in _command_line(folder)
        ]

    async def control(self, operation: str, request: Any) -> Any:
        """Send a request of the control interface and return its response."""
        subject = f"{_CONTROL}.{operation}"
        answer = json.loads((await self.client.request(subject, json.dumps(request).encode(), timeout=30)).data)
        assert answer["success"], answer
        return answer.get("response")

    async def put_config(self, name: str, values: dict[str, str]) -> None:
        await self.control(f"config.put.{name}", values)

    async def put_link(
        self, source: str, target: str, interfaces: list[str], *config: str, name: str = "default"
    ) -> None:
        side = "target_config" if target == PROVIDER_ID else "source_config"
        link = {"source_id": source, "target": target, "name": name, "interfaces": interfaces, side: list(config)}
        await self.control("link.put", link | {"wit_namespace": "wasi", "wit_package": "keyvalue"})

    async def delete_link(self, source: str, name: str = "default") -> None:
        link = {"source_id": source, "name": name, "wit_namespace": "wasi", "wit_package": "keyvalue"}
        await self.control("link.del", link)

    async def start_provider(self, archive: Path, *config: str) -> None:
        await self.control(
            f"provider.start.{self.host_id}",
            {
                "provider_id": PROVIDER_ID,
                "provider_ref": archive.as_uri(),
                "host_id": self.host_id,
                "config": list(config),
            },
        )

    async def stop_provider(self) -> None:
        await self.control(f"provider.stop.{self.host_id}", {"provider_id": PROVIDER_ID, "host_id": self.host_id})

    async def start_component(self, guest: Path) -> GuestComponent:
        await self.control(
            f"component.scale.{self.host_id}",
            {
                "component_ref": guest.as_uri(),
                "component_id": COMPONENT_ID,
                "count": 32,
                "host_id": self.host_id,
                "config": [],
                "allow_update": True,
            },
        )
        identity = DevIdentity(LATTICE, self.host_id, PROVIDER_ID, "caller", "default", Secret(""), Dialect.WASMCLOUD1)
        return GuestComponent(self.client, identity, timeout_seconds=10)


def _command_line(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_bytes().decode(errors="replace")
    except OSError:  # it has ended
        return ""
