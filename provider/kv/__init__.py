"""Buckets for a person: what `keyvalue-nats kv` does, with no command line in it. Reads and writes through the engine."""
