"""A JetStream bucket as a store. Read `store` first, then `bucket`, `engine`, `lease`."""
