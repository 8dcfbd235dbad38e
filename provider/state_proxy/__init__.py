"""The state-proxy connector: serves an actor's files over HTTP on a unix socket, and keeps them in a bucket.

Read `run` first, then `unix_server` and `conversation` (connections), `http1` and `file_operations` (requests), and
`connector` (the operations on the bucket). The process has 32 MiB for everything: every import counts.
"""
