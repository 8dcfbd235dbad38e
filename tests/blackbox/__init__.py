"""The surroundings of a provider for tests: lattice hosts, actors, nats-servers and their faults.

Nothing here imports the provider. It is tested through the wire alone. Read `lattice_host` and `nats_server` first.
"""
