"""Messages between host, actor and provider: typed structs and their bytes. No I/O, no clock, no policy.

Read `keyvalue` first, the fifteen operations, and `extensions` and `operations` with it. Then `lattice` and `host`, the
messages of the lattice and the start of a provider; `nkeys` and `tokens`, keys and signed claims; `archive`, the
claims of a provider archive. All build on `codec` and `secret`.
"""
