"""`keyvalue-nats kv`: the buckets by hand. Read `command` first."""
