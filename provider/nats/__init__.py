"""NATS: connections, requests, JetStream. The only folder that imports nats-py.

Read `connection` first, with `settings` and `connect_options`. Its hot path is `requests` (replies to their requests),
`wire` (messages to their handlers, with the limits of `guards`), `transport` (bytes from the socket), `frames` (to messages);
`closable_client` corrects a fault of nats-py. Above the connection are `jetstream` (streams, consumers, messages) and
`consumer` (a stream's messages as they come). `buckets` and `headers` hold the names that a key-value bucket uses.
"""
