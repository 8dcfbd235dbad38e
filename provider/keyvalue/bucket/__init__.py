"""A JetStream key-value bucket as a store: durable, and exact for each key.

Read `store` (a link's calls, and the bucket kept open) and `bucket` first. Reads: `reading`, then `lease`. Changes: `engine`
(lanes of waiting changes), `plans` (the value to write), `attempts` (written exactly once), `cas` (the outcomes of a write),
`writes`. The form of a message: `reading.stored_form`, `entries`, `ttl`. All keys: `scan`, `sweep`. Every change as it happens: `follow`. Beside these:
`stream` (found or made), `failures`.
"""
