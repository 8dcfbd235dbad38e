"""One replica of a replicated cache: a delta-state CRDT over core NATS, without JetStream.

Read `causality` and `items` first: what a replica holds. Then the ways by which events reach it: `messages`, `replica`
(deltas, on `state`), `transfer` with `merge` and `coverage` (pages of cells), and how it forgets: `tombstones`.
`operations` makes events of an actor's calls. `trust` decides which messages count. Outside the pure part: `channel`
(NATS), `replication` with `peers` and `anti_entropy`, and `store`, which serves the links.
"""
