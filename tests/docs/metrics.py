"""The page docs/metrics.md: `python -m tests.docs.metrics` writes it. The table comes from the code that makes the metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client.core import Metric

from provider.commands.exporter.command import DEFAULT_PORT
from provider.commands.exporter.scrape import families
from provider.telemetry import metrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
RULES = Path(__file__).parents[2] / "deploy" / "prometheus-rules.yml"

_HEAD = f"""<!-- Written by `make docs` from provider/telemetry/metrics.py. -->

# Metrics

`keyvalue-nats exporter` serves the metrics of all provider instances of a lattice to Prometheus. The providers open no
port: the exporter asks them over NATS, for their [statistics](statistics.md), at each scrape.

```
pip install '.[exporter]'                     # in the checkout; make install has it already
keyvalue-nats exporter --nats nats://hub:4222 --lattice production
curl http://127.0.0.1:{DEFAULT_PORT}/metrics
keyvalue-nats exporter --once                 # prints them; exit code 1: no NATS, 3: no instance
```

Run one exporter for a lattice, anywhere. It listens on the loopback address unless `--address` names another one; the
metrics have no passwords, and no keys or values of actors. Its user needs two permissions and no others: to publish to
`$SRV.STATS`, and to subscribe to `_INBOX.>`.

A scrape takes as long as the slowest instance, and up to `--wait` (one second) when an instance has ended. An instance that
answers later than that is left out. While NATS
cannot be reached, a scrape has `keyvalue_nats_exporter_nats_up 0` and no instance.

Metrics over [OTLP](operating.md#logs-health-signals) have the same names, with `service.instance.id` in the resource in
place of the label `instance_id`. Those of the exporter itself are not among them.

## All metrics

Each metric of an instance has the labels `lattice` and `instance_id` beside those in the table. Links, buckets and caches
are at most 256 each per instance; links that do not work come first.
"""


_ALERTS = """## Dashboard and alerts

[`deploy/grafana-dashboard.json`](../deploy/grafana-dashboard.json) is a dashboard for Grafana: import it and choose the
data source. [`deploy/prometheus-rules.yml`](../deploy/prometheus-rules.yml) has the alerts below,
[`deploy/prometheus.yml`](../deploy/prometheus.yml) a configuration of Prometheus with both. A *page* means that calls fail
now or that data are at risk; a *ticket* can wait for the day.

![The dashboard, drawn from the data of a run with two instances, a bucket, a cache and a watch](../deploy/grafana-dashboard.png)
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *_rows(), _ALERTS, *_alerts()])


def _rows() -> Iterator[str]:
    yield "| metric | kind | labels | meaning |\n|---|---|---|---|"
    own = {metric.name: metric for metric in metrics.METRICS}
    for family in families([], is_reachable=True, seconds=0.0):
        name = family.name + ("_total" if family.type == "counter" else "")
        found = own.get(name)
        kind = found.kind.value if found is not None else family.type
        labels = _labels(family, found)
        shown = ", ".join(f"`{label}`" for label in labels)
        yield f"| `{name}` | {kind} | {shown} | {family.documentation} |".replace("|  |", "| |")
    yield ""


def _alerts() -> Iterator[str]:
    yield "| alert | severity | after | meaning | what to do |\n|---|---|---|---|---|"
    for rule in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]:
        texts = rule["annotations"]
        meaning = re.sub(r"{{ \$(?:labels\.)?(\w+)[^}]*}}", lambda found: f"*{found[1]}*", texts["summary"])
        cells = (
            f"`{rule['alert']}`",
            rule["labels"]["severity"],
            rule.get("for", "at once"),
            meaning,
            texts["description"],
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def _labels(family: Metric, found: metrics.Metric | None) -> tuple[str, ...]:
    if found is not None:
        return found.labels
    known: tuple[str, ...] = getattr(family, "_labelnames", ())
    return tuple(label for label in known if label not in ("lattice", "instance_id"))


def write() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
