"""`keyvalue-nats demo`: what the provider does, shown. Read `command` first."""
