"""The side that faces a host of wasmCloud 1.x: calls over wRPC, links with sealed secrets, configs, health, shutdown.

Read `protocol` first, the rules of links and configs, then `exchanges`, the rules by which calls come in and answers go
out: two state machines. `subscriptions` connects them to NATS. `reply_subjects` has the rule to whom an answer may be
sent, `link_records` finds missed links, `component_calls` is the other direction, for watchers.
"""
