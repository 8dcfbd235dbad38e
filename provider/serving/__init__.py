"""The calls that the provider serves. Its modules know both halves: the side of the lattice, and the stores.

`calls` and `running` have everything that is the same under all hosts: limits, deadlines, exactly one answer to each call,
the start and an end in order. `invocations` answers the actors of wasmbus hosts, `components` serves the components of 1.x.
"""
