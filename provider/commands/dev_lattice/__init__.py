"""The development lattice that `dev`, `demo`, `call` and the benchmark share.

Read `start` first: it starts `nats_server` and one `lattice_host` per `provider_process`, over a `lattice_connection`.
Then `actor` (calls the provider), `listener` (receives changes), `raw_bucket` (checks what was stored) and `locks`.
"""
