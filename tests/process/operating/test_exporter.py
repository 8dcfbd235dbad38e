"""The exporter serves the metrics of all instances of a lattice, whether or not NATS can be reached."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from tests.blackbox.host_families import RUST
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.waiting import eventually
from tests.process.conftest import Hosts
from tests.process.operating.exporter_process import exporter, run, scrape, series_of, total

PREFIX = "keyvalue_nats_"
DEPLOY = Path(__file__).parents[3] / "deploy"
DEPLOYED = [DEPLOY / "grafana-dashboard.json", DEPLOY / "prometheus-rules.yml"]
NAME = re.compile(r"keyvalue_nats_[a-z]+(_[a-z]+)*")
MISPLACED = re.compile(r"(seconds|bytes)_(?!total$)|(milli|micro|nano)seconds|_(ms|us|ns|kb|mb|percent)(_|$)")


async def test_it_serves_the_metrics_of_all_instances_by_the_conventions(nats_server: NatsServer, hosts: Hosts) -> None:
    first = await hosts(RUST)
    second = await hosts(RUST, lattice=first.who.lattice, cluster=first.who.cluster, provider_key=first.who.provider)
    texts, cached = first.actor(), first.actor()
    links = [
        first.link(texts, {"BUCKET": "b-" + first.who.lattice, "WATCH": "watched.>"}),
        first.link(cached, {"BACKEND": "cache"}),
    ]
    await asyncio.gather(first.start_provider(links), second.start_provider(links))
    await first.set(texts, "secret-key", "secret-value")
    for _ in range(9):
        await first.get(texts, "secret-key")
    await first.error(texts, "ListAdd", {"listName": "secret-key", "value": "x"})
    await first.set(cached, "secret-key", "v")
    lattice = first.who.lattice
    with exporter("--nats", nats_server.url, "--lattice", lattice) as url:
        assert urlsplit(url).hostname == "127.0.0.1"
        await eventually(lambda: asyncio.to_thread(is_up, url), "a connection of the exporter")
        text = await asyncio.to_thread(scrape, url)
        port, asked = str(urlsplit(url).port), ("exporter", "--once", "--nats", nats_server.url, "--lattice")
        in_use, once, nowhere = await asyncio.gather(
            asyncio.to_thread(run, "exporter", "--port", port),
            asyncio.to_thread(run, *asked, lattice),
            asyncio.to_thread(run, *asked, "none", "--wait", "0.1s"),
        )
    assert in_use.returncode == 1
    assert "address already in use; choose another one with --address and --port" in in_use.stderr

    series = series_of(text)
    assert total(series, f"{PREFIX}exporter_instances") == 2
    ids = {first.who.instance_id, second.who.instance_id}
    assert {dict(labels)["instance_id"] for name, labels in series if name == f"{PREFIX}healthy"} == ids
    assert total(series, f"{PREFIX}calls_total", operation="KeyValue.Get", outcome="ok") == 9
    assert total(series, f"{PREFIX}calls_total", operation="KeyValue.ListAdd", outcome="WrongKindError") == 1
    assert total(series, f"{PREFIX}call_duration_seconds_count", operation="KeyValue.Get") == 9
    assert total(series, f"{PREFIX}call_duration_seconds_bucket", operation="KeyValue.Get", le="+Inf") == 9
    assert total(series, f"{PREFIX}link_calls_total", actor_id=texts, outcome="error") == 1
    assert total(series, f"{PREFIX}bucket_writes_total", bucket=f"b-{lattice}") == 1
    assert total(series, f"{PREFIX}cache_keys") in (1, 2)
    assert total(series, f"{PREFIX}watch_healthy", actor_id=texts) == 2
    assert total(series, f"{PREFIX}resident_memory_bytes") > 20_000_000
    assert "secret" not in text
    served = {name for name, _ in series} | set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert {name for file in DEPLOYED for name in re.findall(r"keyvalue_nats_\w+", file.read_text())} <= served
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert NAME.fullmatch(name)
        assert not MISPLACED.search(name), name
        assert family.documentation.endswith("."), name
        assert family.type in ("counter", "gauge", "histogram")

    assert (once.returncode, once.stderr) == (0, "")
    assert {name for name, _ in series_of(once.stdout)} == {name for name, _ in series}
    assert nowhere.returncode == 3
    assert nowhere.stderr == "error: no provider instance of lattice 'none' has answered within 0.1 s\n"
    assert total(series_of(nowhere.stdout), f"{PREFIX}exporter_nats_up") == 1


def is_up(url: str) -> bool:
    return total(series_of(scrape(url)), f"{PREFIX}exporter_nats_up") == 1


async def test_a_scrape_answers_while_nats_is_away(tmp_path: Path) -> None:
    port = free_port()
    with exporter("--nats", f"nats://127.0.0.1:{port}") as url:
        series = series_of(await asyncio.to_thread(scrape, url))
        assert total(series, f"{PREFIX}exporter_nats_up") == 0
        with NatsServer(tmp_path / "nats-server", port=port):
            await eventually(lambda: asyncio.to_thread(is_up, url), "a connection of the exporter")
        series = series_of(await asyncio.to_thread(scrape, url))
        assert (total(series, f"{PREFIX}exporter_nats_up"), total(series, f"{PREFIX}exporter_instances")) == (0, 0)
    once = await asyncio.to_thread(run, "exporter", "--once", "--nats", f"nats://127.0.0.1:{port}", "--timeout", "1s")
    assert once.returncode == 1
    assert once.stderr == f"error: cannot connect to NATS at nats://127.0.0.1:{port}: connection refused\n"
    assert total(series_of(once.stdout), f"{PREFIX}exporter_nats_up") == 0
