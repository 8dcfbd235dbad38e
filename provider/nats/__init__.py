"""Everything that knows NATS: connections, requests, JetStream. The only package that imports nats-py."""
