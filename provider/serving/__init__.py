"""The calls that the provider serves. Its modules know both halves: the side of the lattice, and the stores.

`calls` has everything that is the same for all hosts: limits, deadlines, exactly one answer to each call. `invocations`
answers the callers of wasmbus hosts.
"""
