"""The check looks at exactly the permissions that the pages list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from provider.commands.check import permissions as needed
from provider.commands.check.findings import State
from provider.commands.check.permissions import Need, Permission, weights
from provider.keyvalue.link_config import parse_link
from provider.nats.jetstream import StreamConfig
from provider.nats.settings import ConnectionSettings
from tests.blackbox.nats.permissions import listed, matches

DOCS = Path(__file__).resolve().parents[4] / "docs"
NAMES = {"LATTICE": "lat", "PROVIDER": "Vprov", "LINK": "lnk"}
SERVERS = ConnectionSettings(servers=("nats://127.0.0.1",))
CACHE = parse_link({"BACKEND": "cache"}, lattice="lat", link_name="lnk", lattice_connection=SERVERS).cache
BUCKET = parse_link({"BUCKET": "b"}, lattice="lat", link_name="lnk", lattice_connection=SERVERS).bucket


def of_pages() -> set[str]:
    """The patterns of the block for paged values, and the one in the sentence after it."""
    text = (DOCS / "operating.md").read_text(encoding="utf-8")
    block = text[text.index("has [pages]") if "has [pages]" in text else text.index("have [pages]") :]
    block = block[: block.index("A link with its own connection")]
    return {found.replace("BUCKET", "b") for found in re.findall(r'["`](\$[^"`]+)["`]', block)}


@pytest.mark.parametrize("is_of_components", [False, True], ids=["0.x", "1.x"])
def test_every_listed_permission_is_looked_at_and_no_other(is_of_components: bool) -> None:
    page = DOCS / ("wasmcloud1.md" if is_of_components else "operating.md")
    _, publish, subscribe = listed(page, NAMES, ["b"])
    of_lattice = (
        needed.of_lattice_of_components("lat", "Vprov")
        if is_of_components
        else needed.of_lattice("lat", "Vprov", "lnk")
    )
    watch = needed.of_watch("b", "lat", is_of_components=is_of_components)
    found = [*needed.inbox(), *of_lattice, *needed.of_bucket(BUCKET), *watch, *needed.of_cache(CACHE)]
    assert {item.pattern for item in found if item.verb == "subscribe"} == set(subscribe)
    assert {item.pattern for item in found if item.verb == "publish"} == (set(publish) | of_pages()) - {
        "$JS.ACK.>"  # a comment there: it is needed with a domain
    }


def test_a_probe_is_within_its_permission() -> None:
    watch = needed.of_watch("b", "lat", is_of_components=False)
    found = [*needed.of_lattice("lat", "Vprov", "lnk"), *needed.of_bucket(BUCKET, "pre."), *watch]
    for item in found:
        assert item.verb == "subscribe" or matches(item.pattern, item.subject)
        assert "*" not in item.subject or item.verb == "subscribe"


def test_a_prefix_of_keys_is_part_of_the_probe() -> None:
    probes = [item.subject for item in needed.of_bucket(BUCKET, "team.") if item.pattern == "$KV.b.>"]
    assert [subject.startswith("$KV.b.team.") for subject in probes] == [True]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("$JS.API.STREAM.INFO.KV_b", "$JS.hub.API.STREAM.INFO.KV_b"),
        ("$KV.b.>", "$JS.hub.API.$KV.b.>"),
        ("$JS.ACK.KV_b.>", "$JS.ACK.>"),
        ("kvcache.lat.lnk.state", "kvcache.lat.lnk.state"),
    ],
)
def test_permissions_in_another_domain_are_those_of_the_page(before: str, after: str) -> None:
    moved = needed.in_domain(Permission("publish", before, Need.ALWAYS), "hub")
    assert moved.pattern == after
    assert matches(moved.pattern, moved.subject)


def test_a_missing_permission_weighs_what_the_bucket_makes_of_it() -> None:
    simple = StreamConfig("KV_b", max_msgs_per_subject=1, allow_direct=True)
    copied = StreamConfig("KV_b", max_msgs_per_subject=1, allow_direct=True, num_replicas=3)
    by_need = weights(simple, None, is_created=True, is_known=True)
    assert by_need[Need.LEADER_READS] is by_need[Need.PAGES] is State.NOTE
    assert by_need[Need.CREATING] is State.WARNING
    by_need = weights(copied, copied, is_created=False, is_known=True)
    assert by_need[Need.LEADER_READS] is by_need[Need.ALL_PAGES] is State.FAILED
    assert by_need[Need.NO_ROOM] is State.WARNING
    assert by_need[Need.CREATING] is State.NOTE
    assert weights(None, None, is_created=True, is_known=True)[Need.CREATING] is State.FAILED
