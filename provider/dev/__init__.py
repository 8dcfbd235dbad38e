"""A development lattice for people with no wasmCloud: a nats-server, a minimal host, an actor, and what measures them."""
