"""The view as plain lines, for pipes and files: one line for each instance, link and store, of NAME=VALUE pairs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from provider.commands.top.rates import Activity, Overview
from provider.plain_text import json_line


def lines(overview: Overview, now: datetime) -> Iterator[str]:
    """Yield the lines of one round. Rates are per second, latencies in milliseconds, sizes in bytes."""
    time = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    for one in overview.instances:
        yield _line(
            time,
            "instance",
            {
                "id": one.id,
                "lattice": one.lattice,
                "healthy": one.is_healthy,
                **_activity(one.activity),
                "waiting": one.in_flight,
                "cpu_percent": round(100 * one.cpu_share, 1),
                "memory": one.resident_bytes,
                "up_seconds": round(one.uptime_seconds),
                "message": one.message,
            },
        )
    for link in overview.links:
        yield _line(
            time,
            "link",
            {
                "name": link.link_name,
                "actor": link.actor_id,
                "lattice": link.lattice,
                "store": f"{link.backend} {link.store}".strip(),
                "healthy": not link.reason,
                **_activity(link.activity),
                "pending": link.watch_pending,
                "age_seconds": round(link.watch_seconds, 1) if link.watch_pending is not None else None,
                "dead_letters": link.dead_letters if link.watch_pending is not None else None,
                "reason": link.reason,
            },
        )
    for store in overview.stores:
        is_bucket = store.kind == "bucket"
        yield _line(
            time,
            store.kind,
            {
                "name": store.name,
                "lattice": store.lattice,
                "healthy": store.is_healthy,
                "items": store.items,
                "size": store.size_bytes,
                "limit": store.limit_bytes or None,
                "replicas": store.replicas,
                "changes": round(store.changes, 1) if is_bucket else None,
                "writes": round(store.writes, 1) if is_bucket else None,
                "conflicts": round(store.conflicts, 1) if is_bucket else None,
                "lag": store.lag,
            },
        )


def _activity(activity: Activity) -> dict[str, object]:
    return {
        "calls": round(activity.calls, 1),
        "errors": round(activity.errors, 1),
        "p50_ms": None if activity.median is None else round(activity.median * 1000, 3),
        "p99_ms": None if activity.p99 is None else round(activity.p99 * 1000, 3),
    }


def _line(time: str, kind: str, fields: dict[str, object]) -> str:
    """Return a line. Fields without a value are left out."""
    given = (f"{name}={_plain(value)}" for name, value in fields.items() if value is not None and value != "")
    return " ".join((time, kind, *given))


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return json_line(text) if not text.isprintable() or any(char in text for char in " =\"'") else text
