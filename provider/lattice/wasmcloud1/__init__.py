"""The side that faces a host of wasmCloud 1.x: calls over wRPC, links with sealed secrets, configs, health, shutdown.

`exchanges` is the state machine by which calls come in and answers go out. `reply_subjects` has the rule to whom an
answer may be sent. `component_calls` is the other direction, for watchers.
"""
