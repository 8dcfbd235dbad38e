"""The development lattice that `dev`, `demo`, `call` and the benchmark share: server, host, actor. Read `lattice` first."""
