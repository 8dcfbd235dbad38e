"""The findings of the check, from what a server or a host gives."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from nacl.utils import random as random_bytes

from contracts.host import HostData
from contracts.nkeys import KeyKind, encode_seed
from contracts.secret import Secret
from provider.commands.check.account import account_findings, clock_finding, decode_account
from provider.commands.check.command import line
from provider.commands.check.findings import Finding, State, worst
from provider.commands.check.key_findings import key_findings
from provider.commands.check.places import places_of_line
from provider.commands.check.servers import version_findings
from provider.commands.check.streams import bucket_findings, missing_bucket, pages_findings
from provider.keyvalue.link_config import parse_link
from provider.nats.jetstream import StreamCluster, StreamConfig, StreamInfo, StreamReplica, StreamState
from provider.nats.settings import ConnectionSettings

SERVERS = ConnectionSettings(servers=("nats://127.0.0.1",))


def bucket(**values: str) -> Any:
    given = {"BUCKET": "b"} | values
    return parse_link(given, lattice="l", link_name="n", lattice_connection=SERVERS, own=given).bucket


def stream(cluster: StreamCluster | None = None, state: StreamState | None = None, **changes: Any) -> StreamInfo:
    settings: dict[str, Any] = {
        "name": "KV_b",
        "subjects": ["$KV.b.>"],
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "allow_msg_ttl": True,
    }
    return StreamInfo(StreamConfig(**settings | changes), state or StreamState(), "", cluster=cluster)


def faults(findings: Iterable[Finding]) -> list[tuple[State, str]]:
    return [(finding.state, finding.text) for finding in findings if finding.state in (State.WARNING, State.FAILED)]


def test_a_bucket_that_the_provider_makes_has_no_faults() -> None:
    assert faults(bucket_findings(bucket(), stream(), 1)) == []


@pytest.mark.parametrize(
    ("changes", "state", "word"),
    [
        ({"subjects": ["x"]}, State.FAILED, "subjects"),
        ({"retention": "workqueue"}, State.FAILED, "retention"),
        ({"discard": "old", "max_bytes": 9}, State.FAILED, "discard old"),
        ({"sealed": True}, State.FAILED, "sealed"),
        ({"mirror": {"name": "KV_a"}}, State.FAILED, "mirror"),
        ({"num_replicas": 3, "max_msg_size": 100}, State.FAILED, "max_msg_size"),
        ({"storage": "memory"}, State.WARNING, "is in memory"),
        ({"max_age": 10**9}, State.WARNING, "maximum age"),
        ({"allow_msg_ttl": False}, State.WARNING, "allow_msg_ttl"),
        ({"allow_direct": False}, State.WARNING, "allow_direct"),
        ({"subject_delete_marker_ttl": 1}, State.WARNING, "markers"),
        ({"max_msgs_per_subject": 5}, State.WARNING, "5 revisions"),
        ({"max_msgs_per_subject": 5, "deny_purge": True}, State.WARNING, "deny_purge"),
    ],
    ids=str,
)
def test_each_setting_that_costs_something_is_named_with_what_to_do(
    changes: dict[str, Any], state: State, word: str
) -> None:
    found = [item for item in bucket_findings(bucket(), stream(**changes), 1) if word in item.text]
    assert [item.state for item in found] == [state]
    assert all(item.advice.endswith((".", "`")) for item in found)


def test_a_full_bucket_and_missing_replicas_are_warnings() -> None:
    full = stream(state=StreamState(size=95), max_bytes=100)
    assert "95 of 100 bytes" in dict(faults(bucket_findings(bucket(MAX_BYTES="100"), full, 1)))[State.WARNING]
    lost, behind = StreamReplica(offline=True), StreamReplica(current=False)
    degraded = stream(StreamCluster("c", [lost, behind]), num_replicas=3)
    assert faults(bucket_findings(bucket(REPLICAS="3"), degraded, 1)) == [
        (State.WARNING, "of 3 replicas, 1 offline and 1 behind the leader")
    ]
    stopped = stream(StreamCluster("c", [lost]), num_replicas=3)
    ((state, text),) = faults(bucket_findings(bucket(REPLICAS="3"), stopped, 1))
    assert state is State.FAILED
    assert text.startswith("of 3 replicas, 1 missing and 1 offline: there is no majority")


def test_a_missing_bucket_is_a_fault_only_if_it_may_not_or_cannot_be_made() -> None:
    account = decode_account(b'{"storage": 900, "limits": {"max_storage": 1000, "max_memory": 0, "max_streams": -1}}')

    def found(*, is_alone: bool = True, **values: str) -> Finding:
        return missing_bucket(bucket(**values), account, is_alone=is_alone)

    assert missing_bucket(bucket(), None, is_alone=False).state is State.NOTE
    assert found().state is found(MAX_BYTES="100").state is State.NOTE
    assert found(REPLICAS="3", is_alone=False).state is State.NOTE
    assert found(CREATE="never").state is State.FAILED
    assert "100 bytes of file storage left" in found(MAX_BYTES="101").text
    assert "no memory storage" in found(STORAGE="memory").text
    alone = found(REPLICAS="3")
    assert alone.state is State.WARNING
    assert "in no cluster" in alone.text


def test_the_stream_of_pages_must_be_the_buckets_own_and_as_safe() -> None:
    ours: dict[str, Any] = {
        "name": "KV_b=pages",
        "subjects": ["$KV.b=pages.>"],
        "metadata": {"keyvalue-nats.pages-of": "b"},
    }
    replicated = stream(num_replicas=3).config
    assert faults(pages_findings("b", stream().config, stream(**ours))) == []
    assert faults(pages_findings("b", stream().config, None)) == []
    assert State.FAILED in dict(faults(pages_findings("b", replicated, stream(**ours))))
    assert State.FAILED in dict(faults(pages_findings("b", replicated, stream(name="KV_b=pages"))))


def test_limits_of_the_account_count_for_each_tier() -> None:
    tiers = {"R3": {"storage": 95, "limits": {"max_storage": 100, "max_memory": 0, "max_streams": -1}}}
    account = decode_account(json.dumps({"tiers": tiers, "api": {"level": 1}, "domain": "hub"}).encode())
    found = list(account_findings(account, "edge"))
    assert [item.about for item in found if item.state is State.WARNING] == ["jetstream", "jetstream limits R3"]
    full = decode_account(b'{"streams": 2, "limits": {"max_streams": 2}, "api": {"level": 1}}')
    assert [text for _, text in faults(account_findings(full, ""))] == ["streams: 2 of 2, full"]


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(0.5, State.OK), (-1.5, State.OK), (5, State.WARNING), (-30, State.WARNING), (61, State.FAILED)],
)
def test_clocks_may_differ_a_little(seconds: float, state: State) -> None:
    found = clock_finding("2026-01-02T03:04:05Z", 1767323045000 + seconds * 1000)
    assert found.state is state
    assert f"{abs(seconds):.3f} s" in found.text


@pytest.mark.parametrize(("version", "count"), [("2.15.1", 0), ("2.10.29", 1), ("2.9.10", 2), ("2.8.4", 3), ("", 0)])
def test_an_old_server_is_told_by_what_it_lacks(version: str, count: int) -> None:
    assert len(version_findings("server", version)) == count


def host_data(seed: Secret, issuers: list[str]) -> HostData:
    return HostData(
        host_id="N",
        lattice_rpc_prefix="l",
        link_name="n",
        provider_key="V",
        invocation_seed=seed,
        cluster_issuers=issuers,
    )


def test_keys_of_the_right_kind_that_fit_together_are_well_and_others_are_named() -> None:
    cluster, account = (encode_seed(kind, random_bytes(32)) for kind in (KeyKind.CLUSTER, KeyKind.ACCOUNT))
    assert worst(key_findings(host_data(cluster.text, [cluster.public_key]))) is State.OK
    wrong = (
        host_data(cluster.text, [account.public_key]),
        host_data(account.text, [cluster.public_key]),
        host_data(Secret("SCNOSEED"), [cluster.public_key]),
        host_data(cluster.text, [cluster.text.reveal()]),
        host_data(Secret(""), [cluster.public_key]),
    )
    states = [worst(key_findings(given)) for given in wrong]
    assert states == [State.WARNING, State.WARNING, State.FAILED, State.FAILED, State.WARNING]
    shown = [text for given in wrong for item in key_findings(given) for text in (item.text, item.advice)]
    assert not [text for text in shown for seed in (cluster, account) if seed.text.reveal() in text]


def test_a_finding_is_one_line_with_the_advice_behind_it() -> None:
    finding = Finding(State.WARNING, "link a", "no such setting; did you mean TTL?", "Correct it.")
    assert str(line(finding)) == "warning link a: no such setting; did you mean TTL? Correct it."
    assert str(line(Finding(State.OK, "clock\n", "well"))) == "ok      clock\\n: well"


def test_host_data_that_no_provider_could_read_is_a_finding() -> None:
    for content in (b"", b"nonsense", b"{}"):
        places = places_of_line(content, {})
        assert [finding.state for finding in places.findings] == [State.FAILED]
        assert places.places == []
