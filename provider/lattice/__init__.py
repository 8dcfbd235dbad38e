"""The side of the provider that faces the host: links, signed invocations, health, shutdown.

Read `protocol` first, the state machine, then `claims` and `seen_ids`, the checks that it makes. `subscriptions` connects
it to NATS. `chunks` carries long payloads, `link_records` finds missed links, `statistics` counts. The other way, from
the provider to an actor, are `actor_calls` and `signing`.
"""
