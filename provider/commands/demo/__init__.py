"""`keyvalue-nats demo`: shows every promise of the provider and checks it.

Read `command` first, then its parts: `walkthrough` (the fifteen operations, forged calls, a crash), `two_actors` (lock,
race, watch), `components` (the functions of wasmCloud 1.x) and `replicas` (three replicas of a cache, one of them cut off
through a `relay`).
"""
