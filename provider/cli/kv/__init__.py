"""`keyvalue-nats kv`: the commands that a person knows from `nats kv`."""
