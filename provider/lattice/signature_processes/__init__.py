"""Signature checks in helper processes, for the time in which invocations wait for one another.

Read `helper`, the program of such a process; `packets`, the bytes between it and the provider; `queue`, the rules by which
invocations go out and come back in order; `process`, one helper; `pool`, all of them; `usable_cores`, how many.
"""
