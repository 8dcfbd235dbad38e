"""`keyvalue-nats dev`: runs a development lattice on this machine. Read `command` first, then `link_options`."""
