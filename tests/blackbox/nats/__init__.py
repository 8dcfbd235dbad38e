"""nats-servers for tests: alone, in clusters and with leaf nodes, their faults, and clients of nats-py."""
