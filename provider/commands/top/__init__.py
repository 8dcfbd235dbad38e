"""`keyvalue-nats top`: a live view of the instances, links and stores of a lattice.

Read `command` first, then `rates`, which turns two rounds of statistics into rows, `screen`, which draws them on a terminal,
`lines`, which prints them to a pipe, and `keyboard`.
"""
