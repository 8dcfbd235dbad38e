"""`keyvalue-nats dev`: a lattice on this machine. Read `command` first."""
