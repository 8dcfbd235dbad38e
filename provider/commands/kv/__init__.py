"""`keyvalue-nats kv`: buckets by hand, with the commands and names of `nats kv`.

Read `command` first, then the commands: `entry_commands`, `bucket_commands`, `watch_command`, `compact_command`. They share `parameters`,
`running` (connection, event loop, signals) and `printing`. Work on keys goes through `open_bucket` and
`stored_revision`, work on buckets through `bucket_admin` and `bucket_info`. `name_rules`, `rendering` and `bucket_rendering` are pure.
`short_read` is the short road of a plain `kv get`, which loads none of the others but these.
"""
