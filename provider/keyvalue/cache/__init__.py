"""One replica of a replicated cache as a store. Read `store` first, then `replica`, `replication`, `transfer`."""
