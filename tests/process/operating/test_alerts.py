"""Prometheus itself raises each alert of deploy/ for the fault that it is for, and none while all is well."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

RULES = Path(__file__).parents[3] / "deploy" / "prometheus-rules.yml"
INTERVAL, AT = "1m", "28m"
"""Interval of the samples, and the time of the look: after every `for` of the rules, and two minutes after a first error."""

PATIENCE_SECONDS = 50.0
"""promtool makes a storage for each look, which takes a busy machine a while."""

LINK, BUCKET, CACHE, OPERATION = 'actor_id="a",link_name="n"', 'bucket="b"', 'cache="c"', 'operation="o"'

Series = dict[str, str]
"""Values of metrics in the notation of promtool, by their names and labels without those of the instance."""

WELL: Series = {
    "exporter_nats_up": "1x40",
    "exporter_instances": "2x40",
    "healthy": "1x40",
    f'link_healthy{{{LINK},backend="bucket",store="b"}}': "1x40",
    f'calls_total{{{OPERATION},outcome="ok"}}': "0+10x40",
    f'calls_total{{{OPERATION},outcome="EmptyKeyError"}}': "0+10x40",
    f'call_duration_seconds_bucket{{{OPERATION},le="0.5"}}': "0+10x40",
    f'call_duration_seconds_bucket{{{OPERATION},le="2.5"}}': "0+10x40",
    f'call_duration_seconds_bucket{{{OPERATION},le="+Inf"}}': "0+10x40",
    "in_flight_calls": "1x40",
    "in_flight_limit_calls": "100x40",
    f"bucket_consecutive_write_failures{{{BUCKET}}}": "0x40",
    f"bucket_size_bytes{{{BUCKET}}}": "5x40",
    f"bucket_limit_bytes{{{BUCKET}}}": "100x40",
    f"bucket_lease_misses_total{{{BUCKET}}}": "0x40",
    f"cache_joined{{{CACHE}}}": "1x40",
    f"cache_missing_changes{{{CACHE}}}": "0x40",
    f"cache_keys{{{CACHE}}}": "5x40",
    f"cache_limit_keys{{{CACHE}}}": "100x40",
    f"watch_healthy{{{LINK}}}": "1x40",
    f"watch_current_change_age_seconds{{{LINK}}}": "0x40",
    f"watch_dead_letters_total{{{LINK}}}": "0x40",
    "reconnects_total": "0x40",
    "signature_processes": "1x40",
    "signature_processes_running": "1x40",
}

FAULTS: dict[str, Series] = {
    "ExporterMissing": {"exporter_nats_up": "_x40", "exporter_instances": "_x40"},
    "Unreachable": {"exporter_nats_up": "0x40", "exporter_instances": "0x40"},
    "NoInstance": {"exporter_instances": "0x40"},
    "InstanceLost": {"exporter_instances": "2x15 1x25"},
    "Unhealthy": {"healthy": "0x40"},
    "LinkDown": {f'link_healthy{{{LINK},backend="bucket",store="b"}}': "0x40"},
    "CallsFail": {f'calls_total{{{OPERATION},outcome="StoreTimeoutError"}}': "0+1x40"},
    "Slow": {f'call_duration_seconds_bucket{{{OPERATION},le="0.5"}}': "0+1x40"},
    "Overloaded": {"in_flight_calls": "90x40"},
    "Defect": {f'calls_total{{{OPERATION},outcome="InternalError"}}': "_x25 1x15"},
    "ValueDamaged": {f'calls_total{{{OPERATION},outcome="DamagedValueError"}}': "_x25 1x15"},
    "Clock": {'refused_invocations_total{reason="ClaimsTooOldError"}': "0+1x40"},
    "Denied": {'refused_invocations_total{reason="UnlinkedComponentError"}': "_x25 20x15"},
    "WritesFail": {f"bucket_consecutive_write_failures{{{BUCKET}}}": "3x40"},
    "BucketFull": {f"bucket_size_bytes{{{BUCKET}}}": "95x40"},
    "ReplicaMissing": {f"bucket_lease_misses_total{{{BUCKET}}}": "0+1x40"},
    "CacheNotJoined": {f"cache_joined{{{CACHE}}}": "0x40"},
    "CacheBehind": {f"cache_missing_changes{{{CACHE}}}": "5x40"},
    "CacheFull": {f"cache_keys{{{CACHE}}}": "95x40"},
    "CacheRefusesMessages": {f'cache_refused_messages_total{{{CACHE},reason="repeated"}}': "_x25 20x15"},
    "WatchStopped": {f"watch_healthy{{{LINK}}}": "0x40"},
    "WatchBehind": {f"watch_current_change_age_seconds{{{LINK}}}": "400x40"},
    "DeadLetters": {f"watch_dead_letters_total{{{LINK}}}": "0x25 1x15"},
    "Reconnects": {"reconnects_total": "0x22 1 2 3 4 5x15"},
    "SignatureProcesses": {"signature_processes_running": "0x40"},
}


def look(name: str, series: Series, alerts: list[str]) -> dict[str, Any]:
    """Return a test of promtool: that these alerts fire and no others."""

    def full(metric: str) -> str:
        of_instance = "" if metric.startswith("exporter_") else 'lattice="l",instance_id="i"'
        before, _, labels = metric.partition("{")
        return f"keyvalue_nats_{before}{{{','.join(filter(None, (of_instance, labels.rstrip('}'))))}}}"

    firing = [{"labels": f'{{alertname="KeyvalueNats{alert}"}}', "value": 1} for alert in alerts]
    return {
        "name": name,
        "interval": INTERVAL,
        "input_series": [{"series": full(metric), "values": values} for metric, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": AT,
                "exp_samples": firing,
            }
        ],
    }


def test_each_alert_is_raised_by_its_fault_alone(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool (on Debian: apt install prometheus)")
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
    assert [f"KeyvalueNats{name}" for name in FAULTS] == [rule["alert"] for rule in rules]
    looks = [look("all is well", WELL, [])]
    looks += [look(name, WELL | fault, [name]) for name, fault in FAULTS.items()]
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": INTERVAL, "tests": looks}))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
