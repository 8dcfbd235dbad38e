"""The exporter as a child process, and its scrapes."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

COMMAND = str(Path(sys.executable).parent / "keyvalue-nats")
SECONDS = 20.0

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by the name and the labels of a sample."""


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("NATS_")}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the project to its end."""
    return subprocess.run(
        [COMMAND, *arguments], env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )


@contextmanager
def exporter(*arguments: str) -> Iterator[str]:
    """Run the exporter on a free port of the loopback address; yield the URL that it prints. It must end well."""
    process = subprocess.Popen(
        [COMMAND, "exporter", "--port", "0", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().removeprefix("metrics: ").strip()
    finally:
        process.terminate()
        process.stdout.close()
        assert process.wait(SECONDS) == 0


def scrape(url: str) -> str:
    with urllib.request.urlopen(url, timeout=SECONDS) as response:
        text: str = response.read().decode()
    return text


def series_of(text: str) -> Series:
    """Parse the text format. A series that occurs twice, for which Prometheus drops the scrape, is an error."""
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def total(series: Series, name: str, **labels: str) -> float:
    """Return the sum of a metric over all series with these labels. There must be one."""
    values = [
        value for (found, given), value in series.items() if found == name and labels.items() <= dict(given).items()
    ]
    assert values, (name, labels)
    return sum(values)
