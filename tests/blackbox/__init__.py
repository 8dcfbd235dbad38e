"""A lattice host for tests that shares nothing with the provider: only the wire, as `wasmbus-protocol` describes it."""
